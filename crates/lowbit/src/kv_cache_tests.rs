use super::*;

#[test]
fn configs_are_read_back_and_others_refused() {
    for cache in KV_CACHES {
        assert_eq!(from_config(&cache.to_config()).unwrap(), Some(cache));
        assert_eq!(find(cache.name).unwrap(), cache);
    }
    assert_eq!(from_config(&json!(null)).unwrap(), None);
    assert_eq!(from_config(&json!({})).unwrap(), None);
    let short = json!({ "num_bits": 8, "type": "float" });
    assert_eq!(from_config(&short).unwrap(), Some(KV_CACHES[0]));
    for (key, value) in [
        ("num_bits", json!(4)),
        ("type", json!("nf")),
        ("strategy", json!("channel")),
    ] {
        let mut config = KV_CACHES[0].to_config();
        config[key] = value;
        assert_eq!(from_config(&config).unwrap_err().code, Code::Unsupported);
    }
    let e = find("fp8-heads").unwrap_err();
    assert_eq!(
        (e.code, &*e.remedy),
        (Code::Option, "did you mean \"fp8-head\"?")
    );
}

#[test]
fn scales_are_the_largest_magnitude_over_half_of_the_range() {
    let [fp8, int8, fp8_head, _] = KV_CACHES;
    let largest = [448.0, 896.0];
    assert_eq!(fp8.scales(&largest, Dtype::F32).unwrap(), [2.0]);
    assert_eq!(int8.scales(&[255.0], Dtype::F32).unwrap(), [2.0]);
    assert_eq!(fp8_head.scales(&largest, Dtype::F32).unwrap(), [1.0, 2.0]);
    assert_eq!((fp8.shape(2), fp8_head.shape(2)), (vec![1], vec![2, 1, 1]));
    // Stored in the type asked for; a head that was always 0 gets that type's epsilon.
    assert_eq!(fp8.scales(&[1.0], Dtype::BF16).unwrap(), [0.002_227_783_2]);
    assert_eq!(fp8.scales(&[0.0], Dtype::BF16).unwrap(), [0.007_812_5]);
    let e = fp8.scales(&[3e38], Dtype::F16).unwrap_err();
    assert_eq!(e.code, Code::NonfiniteActivation, "{e}");
}

#[test]
fn rounding_is_that_of_the_definition() {
    let [fp8, int8, ..] = KV_CACHES;
    let mut x = [0.0, 0.3, -7.3, 1000.0];
    let rounding = Rounding::new(fp8, 2, fp8, [vec![2.0], vec![1.0]]);
    rounding.keys(&mut x);
    // 0.15 is nearest to 0.15625, −3.65 to −3.75, and 500 is beyond 448.
    assert_eq!(x, [0.0, 0.312_5, -7.5, 896.0]);
    let mut x = [0.5, 1.5, -300.0, 300.0];
    let scales = || [vec![1.0, 2.0], vec![1.0]];
    Rounding::new(int8, 2, int8, scales()).keys(&mut x);
    assert_eq!(
        x,
        [0.0, 2.0, -256.0, 254.0],
        "ties to even, a scale per head"
    );
    Rounding::new(int8, 2, int8, scales()).values(&mut x);
    assert_eq!(x, [0.0, 2.0, -128.0, 127.0]);
}

#[test]
fn scales_of_another_element_stand_for_the_same_magnitude() {
    let [fp8, int8, ..] = KV_CACHES;
    let of = [fp8.scales(&[51.0], Dtype::F32).unwrap(), vec![1.0]];
    let mut x = [51.0, -50.9];
    Rounding::new(int8, 2, fp8, of).keys(&mut x);
    let step = 51.0 / 127.5;
    for (found, wanted) in x.iter().zip([127.0 * step, -127.0 * step]) {
        assert!((found - wanted).abs() < 1e-4, "{found} is not {wanted}");
    }
}

#[test]
fn without_scales_fp8_is_taken_as_it_is_and_integers_have_their_own() {
    let [fp8, int8, ..] = KV_CACHES;
    let mut x = [1.06, 500.0];
    Rounding::uncalibrated(fp8, 2).keys(&mut x);
    assert_eq!(x, [1.0, 448.0]);
    let mut x = [127.5, 64.2, 0.0, 0.0, f32::NAN, 1.0];
    Rounding::uncalibrated(int8, 2).values(&mut x);
    assert_eq!(x[..4], [127.0, 64.0, 0.0, 0.0]);
    assert!(
        x[4].is_nan() && (x[5] - 127.0 / 127.5).abs() < 1e-6,
        "{}",
        x[5]
    );
}

#[test]
fn names_of_scales_are_known() {
    assert!(is_scale("model.layers.0.self_attn.k_scale"));
    assert!(is_scale("model.layers.11.self_attn.q_scale"));
    assert!(!is_scale("model.layers.0.self_attn.k_proj.weight_scale") && !is_scale("k_scale"));
}
