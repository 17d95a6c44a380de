use super::sample::matrix;
use super::*;
use crate::kernels::shapes::Random;
use proptest::prelude::*;

/// One of each kind of scheme; groups are small, so that odd shapes divide.
pub(crate) const SCHEMES: &[&str] = &[
    "w2g8",
    "w3g16",
    "w4g32",
    "w8g8",
    "w4",
    "w8",
    "w2g8-asym",
    "w3-asym",
    "w4g8-asym",
    "w8g16-asym",
    "w2g8-float",
    "w3g8-float",
    "w4g16-float",
    "w8-float",
    "w8a8",
    "w8a8-asym",
    "w8a8s",
    "w8a8t",
    "w4a8g8",
    "w8a8st",
    "fp8",
    "fp8t",
    "fp8a8",
    "fp8a8s",
    "fp8a8t",
    "fp8a8st",
    "fp8a8b16x8",
    "fp8b3x5",
    "nf4flat32",
    "nf4flat32-dq",
    "fp4flat64",
    "fp4flat64-dq",
    "mxfp4",
    "nvfp4",
    "nvfp4a4",
    "w4flat8",
    "w4b8x8",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn matrices_survive_every_layout_that_takes_them(
        layout in 0..LAYOUTS.len(), scheme in 0..SCHEMES.len(), rows in 0usize..70, runs in 0usize..14,
        run in 0usize..5, dtype in 0usize..3, seed in any::<u32>(),
    ) {
        let layout = LAYOUTS[layout];
        let scheme: Scheme = SCHEMES[scheme].parse().unwrap();
        let cols = runs * [1, 8, 16, 32, 64][run];
        let rows = if run == 4 { rows / 16 * 32 } else { rows };
        if let Err(error) = layout.fits(&scheme, rows, cols) {
            prop_assert_eq!(error.code, Code::Scheme);
            prop_assert!(error.what.len() > 15, "{}", error);
            return Ok(());
        }
        let dtype = [Dtype::F32, Dtype::F16, Dtype::BF16][dtype];
        let source = matrix(&mut Random(u64::from(seed)), &scheme, (rows, cols), dtype);
        let tensors = layout.encode("m", &source, &scheme, dtype).unwrap();
        let planned = layout.outputs("m", &scheme, (rows, cols), dtype, false);
        prop_assert_eq!(tensors.len(), planned.len());
        for (t, p) in tensors.iter().zip(&planned) {
            prop_assert_eq!((&t.name, t.dtype, &t.shape), (&p.name, p.dtype, &p.shape));
            t.view().unwrap();
        }
        let config = layout.config(&[("m".into(), scheme)], &["lm_head".into()], false);
        let resolver = detect(&serde_json::json!({ "quantization_config": config }));
        let resolver = resolver.unwrap().unwrap();
        let names: Vec<_> = tensors.iter().map(|t| t.name.clone()).collect();
        let rule = resolver.rule("m").unwrap();
        prop_assert!(rule.layout.is_quantized(&names));
        let back = rule.layout.decode("m", &rule.scheme, &tensors).unwrap();
        let (mut found, mut wanted) = (vec![0.0; cols], vec![0.0; cols]);
        for r in 0..rows {
            back.dequantize_row(r, &mut found).unwrap();
            source.dequantize_row(r, &mut wanted).unwrap();
            // Where a layout has scales of another type, their products round once more.
            let near = |(a, b): (&f32, &f32)| (a - b).abs() <= 2e-7 * b.abs();
            prop_assert!(found.iter().zip(&wanted).all(near), "row {}", r);
        }
        prop_assert_eq!(back.inputs, source.inputs);
        prop_assert_eq!(layout.encode("m", &back, &scheme, dtype).unwrap(), tensors);
    }
}

#[test]
fn every_layout_takes_some_scheme() {
    for layout in LAYOUTS.iter().filter(|l| l.is_written()) {
        let takes = |s: &&&str| layout.fits(&s.parse().unwrap(), 64, 128).is_ok();
        assert!(SCHEMES.iter().any(|s| takes(&s)), "{}", layout.name());
    }
}

#[test]
fn configs_that_cannot_be_followed_are_named() {
    let rows = [
        (
            serde_json::json!({"quant_method": "gptq", "bits": 5, "group_size": 128}),
            "bits 5",
        ),
        (
            serde_json::json!({"quant_method": "gptq", "bits": 4, "group_size": 0}),
            "group_size",
        ),
        (
            serde_json::json!({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}),
            "marlin",
        ),
        (
            serde_json::json!({"quant_method": "awq", "bits": 4, "group_size": 64, "version": "marlin"}),
            "marlin",
        ),
        (
            serde_json::json!({"quant_method": "awq", "bits": 8, "group_size": 64}),
            "bits 8",
        ),
        (
            serde_json::json!({"quant_method": "hqq", "quant_config": {}}),
            "nbits",
        ),
        (
            serde_json::json!({"quant_method": "fp8", "weight_block_size": [128]}),
            "weight_block_size",
        ),
        (
            serde_json::json!({"quant_method": "bitsandbytes", "bnb_4bit_quant_type": "int4"}),
            "int4",
        ),
        (serde_json::json!({"quant_method": "quark"}), "quark"),
    ];
    for (config, word) in rows {
        let error = detect(&serde_json::json!({ "quantization_config": config })).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}
