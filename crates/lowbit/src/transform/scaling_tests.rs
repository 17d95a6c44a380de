//! What a search does when there is nothing to find, and when something is broken.

use super::*;
use crate::cpu::{Cpu, Isa};
use crate::job::recipe::{Awq, SmoothQuant, Transform};
use crate::round::RoundOptions;
use crate::round::gptq::GptqOptions;
use crate::round::observer::Observer;
use crate::scheme::Scheme;
use crate::session::random::Pcg32;
use std::sync::Arc;

const N: usize = 64;
const ROWS: usize = 48;

fn mapping() -> Mapping {
    Mapping {
        producer: Producer::Norm(Part::InputNorm),
        consumers: vec![Part::Q, Part::Router],
    }
}

fn block(values: Vec<f32>) -> FloatBlock {
    let matrix = |values| Slotted::Matrix {
        weight: Matrix {
            rows: ROWS,
            cols: N,
            values,
        },
        bias: None,
    };
    Block {
        ops: Arc::from(Vec::new()),
        weights: vec![
            (Part::InputNorm, Slotted::Vector(vec![1.0; N])),
            (Part::Q, matrix(values.clone())),
            (Part::Router, matrix(values)),
        ],
    }
}

fn draw(len: usize, seed: u64) -> Vec<f32> {
    let mut random = Pcg32::new(seed, 1);
    (0..len).map(|_| random.next_f64() as f32 - 0.5).collect()
}

fn stats(x: &[f32]) -> InputStats {
    let cpu = Cpu::single();
    let mut stats = InputStats::new(N);
    stats.add(&cpu, x);
    stats.finish(&cpu);
    stats
}

/// Inputs with a few loud channels.
fn loud(tokens: usize) -> Vec<f32> {
    let mut x = draw(tokens * N, 2);
    for token in x.chunks_mut(N) {
        token.iter_mut().step_by(20).for_each(|x| *x *= 50.0);
    }
    x
}

fn search(
    cpu: &Cpu,
    transform: &Transform,
    block: &FloatBlock,
    stats: &InputStats,
    scheme: &str,
) -> Result<Outcome> {
    let scheme: Scheme = scheme.parse()?;
    let target = Target {
        schemes: vec![Some(scheme), None],
        options: RoundOptions {
            observer: Observer::MinMax,
            scale_dtype: Dtype::F16,
            gptq: GptqOptions::default(),
        },
    };
    let mut scaling = Scaling::new(transform, &mapping(), block, stats, target)?;
    while !scaling.step(cpu, block, stats)? {}
    Ok(scaling.finish())
}

fn awq() -> Transform {
    Transform::Awq(Awq::default())
}

fn smooth(search: bool) -> Transform {
    Transform::SmoothQuant(SmoothQuant {
        search,
        ..SmoothQuant::default()
    })
}

#[test]
fn loud_channels_get_finer_steps_for_any_number_of_threads() {
    let (block, stats) = (block(draw(ROWS * N, 1)), stats(&loud(300)));
    for (transform, scheme, most) in [
        (awq(), "w4g32", 0.95),
        (smooth(true), "w8a8", 0.7),
        (smooth(false), "w8a8", 0.7),
        (smooth(true), "w8a8s", 0.7),
    ] {
        let outcome = search(&Cpu::single(), &transform, &block, &stats, scheme).unwrap();
        let cpu = Cpu::new(Isa::detect(), 2).unwrap();
        let threaded = search(&cpu, &transform, &block, &stats, scheme).unwrap();
        assert_eq!(outcome, threaded);
        assert!(outcome.flagged.is_none(), "{:?}", outcome.flagged);
        let (before, after) = (outcome.loss_before, outcome.loss_after);
        assert!(after < most * before, "{scheme}: {after} of {before}");
        assert!(outcome.scales[20] > outcome.scales[21]);
    }
}

#[test]
fn silent_inputs_and_hopeless_candidates_keep_scales_of_one() {
    let cpu = Cpu::single();
    let quiet = stats(&vec![0.0; 10 * N]);
    let weights = block(draw(ROWS * N, 1));
    for transform in [awq(), smooth(true)] {
        let outcome = search(&cpu, &transform, &weights, &quiet, "w4g32").unwrap();
        assert_eq!((outcome.scales, outcome.ratio), (vec![1.0; N], None));
        assert!(
            outcome
                .flagged
                .is_some_and(|why| why.starts_with("none of 2"))
        );
    }
    // Every weight is on its grid, so that any scale but 1 costs something.
    let exact: Vec<f32> = (0..ROWS * N).map(|i| (i % 16) as f32 - 5.0).collect();
    let input = stats(&loud(50));
    let outcome = search(&cpu, &awq(), &block(exact), &input, "w4g32-asym").unwrap();
    assert_eq!((outcome.loss_before, outcome.ratio), (0.0, None));
    assert!(outcome.flagged.is_some());
}

#[test]
fn candidates_that_cannot_be_stored_drop_out() {
    // Scales of f16 end at 65504, and so do those of a candidate that scales large weights up.
    let values = draw(ROWS * N, 1).iter().map(|w| w * 6e5).collect();
    let outcome = search(
        &Cpu::single(),
        &awq(),
        &block(values),
        &stats(&loud(50)),
        "w4g32",
    );
    let outcome = outcome.unwrap();
    assert!(outcome.loss_after.is_finite() && outcome.loss_after <= outcome.loss_before);
}

#[test]
fn a_baseline_that_is_not_finite_is_an_error() {
    let cpu = Cpu::single();
    let good = block(draw(ROWS * N, 1));
    let mut x = loud(20);
    x[5] = f32::NAN;
    let e = search(&cpu, &awq(), &good, &stats(&x), "w4g32").unwrap_err();
    assert_eq!(e.code, Code::NonfiniteActivation);
    let mut values = draw(ROWS * N, 1);
    values[7] = f32::INFINITY;
    let e = search(&cpu, &awq(), &block(values), &stats(&loud(20)), "w4g32").unwrap_err();
    assert_eq!(e.code, Code::NonfiniteWeight);
    let huge: Vec<f32> = draw(ROWS * N, 1).iter().map(|w| w * 1e7).collect();
    let e = search(&cpu, &awq(), &block(huge), &stats(&loud(20)), "w4g32").unwrap_err();
    assert_eq!(e.code, Code::Qparam);
    let rotate = Transform::Rotate(crate::job::recipe::Rotate::default());
    let e = search(&cpu, &rotate, &good, &stats(&loud(20)), "w4g32").unwrap_err();
    assert_eq!(e.code, Code::Option);
}

#[test]
fn consumers_that_stay_as_they_are_are_scaled_and_not_scored() {
    let cpu = Cpu::single();
    let mut changed = block(draw(ROWS * N, 1));
    let input = stats(&loud(300));
    let outcome = search(&cpu, &awq(), &changed, &input, "w4g32").unwrap();
    // Another matrix of the consumer that is not rounded changes nothing.
    matrix_mut(&mut changed, Part::Router).0.values.fill(1e6);
    let again = search(&cpu, &awq(), &changed, &input, "w4g32").unwrap();
    assert_eq!(outcome, again);
    let effective = fold(&mut changed, &mapping(), &outcome.scales, Dtype::BF16, 0.0);
    let router = &changed.matrix(Part::Router).0.values;
    assert!(router.iter().zip(&effective).all(|(w, s)| *w == 1e6 * s));
}

#[test]
fn norms_are_rounded_first_and_consumers_get_the_difference() {
    let s: Vec<f32> = (0..N).map(|j| 0.3 + j as f32 / 7.0).collect();
    for (stored, offset) in [
        (Dtype::F32, 0.0),
        (Dtype::BF16, 0.0),
        (Dtype::BF16, 1.0),
        (Dtype::F16, 1.0),
    ] {
        let mut scaled = block(draw(ROWS * N, 1));
        let norm = vector_mut(&mut scaled, Part::InputNorm);
        norm.iter_mut().zip(draw(N, 3)).for_each(|(g, d)| *g += d);
        norm[9] = 0.0;
        let before = scaled.clone();
        let effective = fold(&mut scaled, &mapping(), &s, stored, offset);
        assert_eq!(effective[9], 1.0, "a channel that is switched off stays");
        for j in 0..N {
            let (g, old) = (
                scaled.vector(Part::InputNorm)[j],
                before.vector(Part::InputNorm)[j],
            );
            let kept = crate::tensor::round_to(stored, g - offset) + offset;
            assert!(j == 9 || g == kept, "stored without loss");
            for row in 0..ROWS {
                let at = row * N + j;
                let (w, source) = (
                    scaled.matrix(Part::Q).0.values[at],
                    before.matrix(Part::Q).0.values[at],
                );
                let (product, wanted) = (f64::from(g * w), f64::from(old * source));
                assert!((product - wanted).abs() <= 3e-7 * wanted.abs());
            }
        }
    }
}
