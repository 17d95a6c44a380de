use super::*;

fn sampler(change: impl FnOnce(&mut Sampling)) -> Sampler {
    let mut sampling = Sampling {
        temperature: 1.0,
        seed: 11,
        ..Sampling::default()
    };
    change(&mut sampling);
    Sampler::new(sampling).unwrap()
}

/// Logits of these probabilities.
fn logits(shares: &[f64]) -> Output {
    Output::Logits(shares.iter().map(|p| p.ln() as f32).collect())
}

/// Draws 20,000 times and counts each of four tokens.
fn counts(sampler: &mut Sampler, shares: &[f64]) -> [usize; 4] {
    let mut counts = [0; 4];
    for _ in 0..20_000 {
        counts[sampler.choose(logits(shares)).unwrap() as usize] += 1;
    }
    counts
}

const SHARES: [f64; 4] = [0.2, 0.5, 0.05, 0.25];

/// χ² of counts against shares stays below the 99.9 % quantile for three degrees of freedom.
fn assert_follows(counts: [usize; 4], shares: [f64; 4]) {
    let n: usize = counts.iter().sum();
    let mut chi = 0.0;
    for (count, share) in counts.into_iter().zip(shares) {
        if share == 0.0 {
            assert_eq!(count, 0, "{counts:?}");
        } else {
            chi += (count as f64 - share * n as f64).powi(2) / (share * n as f64);
        }
    }
    assert!(chi < 16.27, "χ² {chi} of {counts:?}");
}

#[test]
fn temperature_one_follows_the_distribution() {
    assert_follows(counts(&mut sampler(|_| ()), &SHARES), SHARES);
}

#[test]
fn temperature_sharpens_and_flattens() {
    let squares = SHARES.map(|p| p * p);
    let sum: f64 = squares.iter().sum();
    let cold = counts(&mut sampler(|s| s.temperature = 0.5), &SHARES);
    assert_follows(cold, squares.map(|q| q / sum));
}

#[test]
fn zero_temperature_takes_the_best_and_the_lower_id() {
    let mut greedy = sampler(|s| s.temperature = 0.0);
    assert_eq!(greedy.want(), Want::Top(1));
    assert_eq!(greedy.choose(logits(&SHARES)).unwrap(), 1);
    assert_eq!(greedy.choose(logits(&[0.1, 0.45, 0.45])).unwrap(), 1);
}

#[test]
fn top_k_keeps_the_k_best() {
    let mut k2 = sampler(|s| s.top_k = 2);
    assert_eq!(k2.want(), Want::Top(2));
    assert_follows(counts(&mut k2, &SHARES), [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
}

#[test]
fn top_k_of_candidates_equals_top_k_of_logits() {
    let row: Vec<f32> = (0..500).map(|i| (i * 7919 % 499) as f32 / 50.0).collect();
    let (mut a, mut b) = (sampler(|s| s.top_k = 20), sampler(|s| s.top_k = 20));
    for _ in 0..200 {
        let few = Output::Top(top::select(&row, 20).unwrap());
        let all = Output::Logits(row.clone());
        assert_eq!(a.choose(few).unwrap(), b.choose(all).unwrap());
    }
}

#[test]
fn top_p_keeps_the_shortest_prefix() {
    let got = counts(&mut sampler(|s| s.top_p = 0.7), &SHARES);
    assert_follows(got, [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
    let one = counts(&mut sampler(|s| s.top_p = 0.01), &SHARES);
    assert_eq!(one, [0, 20_000, 0, 0]);
}

#[test]
fn top_p_of_a_long_row_equals_that_of_a_sorted_one() {
    let flat: Vec<f32> = (0..20_000)
        .map(|i| (i * 7919 % 19_997) as f32 / 9e3)
        .collect();
    let mut all: Vec<(u32, f64)> = (0u32..)
        .zip(flat.iter().map(|l| f64::from(*l).exp()))
        .collect();
    let total: f64 = all.iter().map(|w| w.1).sum();
    for share in [0.001, 0.2, 0.95] {
        let mut quick = all.clone();
        sort_until(&mut quick, share);
        all.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let n = prefix(&all, share * total).unwrap();
        assert_eq!(prefix(&quick, share * total), Some(n));
        assert_eq!(quick[..n], all[..n]);
    }
}

#[test]
fn min_p_is_relative_to_the_best() {
    let got = counts(&mut sampler(|s| s.min_p = 0.45), &SHARES);
    assert_follows(got, [0.0, 2.0 / 3.0, 0.0, 1.0 / 3.0]);
}

#[test]
fn repetition_penalty_lowers_what_was_seen() {
    let mut s = sampler(|s| (s.temperature, s.repetition_penalty) = (0.0, 2.0));
    s.observe(&[1]);
    assert_eq!(s.want(), Want::Last);
    assert_eq!(s.choose(Output::Logits(vec![3.0, 5.0, -1.0])).unwrap(), 0);
}

#[test]
fn one_seed_gives_one_text() {
    let draw = |seed| {
        let mut s = sampler(|s| s.seed = seed);
        let ids = (0..50).map(|_| s.choose(logits(&SHARES)).unwrap());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn nan_is_an_error_and_never_a_token() {
    for temperature in [0.0, 1.0] {
        let mut s = sampler(|s| s.temperature = temperature);
        let nan = s.choose(Output::Logits(vec![0.0, f32::NAN])).unwrap_err();
        assert_eq!(nan.code, Code::NonfiniteLogits);
        let top = Top {
            ids: vec![0],
            logits: vec![1.0],
            log_sum: f32::NAN,
        };
        let lost = s.choose(Output::Top(top)).unwrap_err();
        assert_eq!(lost.code, Code::NonfiniteLogits);
    }
}

#[test]
fn impossible_tokens_are_never_drawn() {
    let mut s = sampler(|s| s.temperature = 100.0);
    let row = vec![f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY];
    for _ in 0..100 {
        assert_eq!(s.choose(Output::Logits(row.clone())).unwrap(), 1);
    }
}

#[test]
fn options_out_of_range_are_named() {
    for (name, sampling) in [
        (
            "temperature",
            Sampling {
                temperature: -1.0,
                ..Sampling::default()
            },
        ),
        (
            "temperature",
            Sampling {
                temperature: f64::NAN,
                ..Sampling::default()
            },
        ),
        (
            "topP",
            Sampling {
                top_p: 0.0,
                ..Sampling::default()
            },
        ),
        (
            "minP",
            Sampling {
                min_p: 1.5,
                ..Sampling::default()
            },
        ),
        (
            "repetitionPenalty",
            Sampling {
                repetition_penalty: 0.0,
                ..Sampling::default()
            },
        ),
    ] {
        let e = Sampler::new(sampling).unwrap_err();
        assert_eq!(e.code, Code::Option);
        assert!(e.what.starts_with(name), "{e}");
    }
}
