//! Pooling: one vector of the hidden states of a text's tokens, as sentence-transformers names it.

use crate::error::{Code, Error, Result, nearest};
use crate::model::encoder::Text;

/// How a vector is made of states `[tokens, hidden]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pool {
    /// The state of the first token.
    Cls,
    /// The mean.
    Mean,
    /// The largest value of each channel.
    Max,
    /// The sum over √tokens.
    MeanSqrtLen,
    /// The mean weighted by 1 for the first token, 2 for the second, and so on.
    WeightedMean,
    /// The state of the last token.
    Last,
}

/// The names that people give poolings.
pub const POOLS: &[(&str, Pool)] = &[
    ("cls", Pool::Cls),
    ("mean", Pool::Mean),
    ("max", Pool::Max),
    ("mean_sqrt_len_tokens", Pool::MeanSqrtLen),
    ("weightedmean", Pool::WeightedMean),
    ("lasttoken", Pool::Last),
];

impl Pool {
    /// A pooling by its name; `option` names the nearest.
    pub fn parse(name: &str) -> Result<Self> {
        if let Some((_, pool)) = POOLS.iter().find(|(known, _)| *known == name) {
            return Ok(*pool);
        }
        let near = nearest(name, POOLS.iter().map(|(name, _)| *name)).unwrap_or_default();
        let what = format!("unknown pooling {name:?}");
        Err(Error::new(Code::Option, what).remedy(format!("did you mean {near:?}?")))
    }

    /// Adds the text's vector to `out`; sums are f64.
    fn push(self, states: &[f32], width: usize, out: &mut Vec<f32>) {
        let tokens = states.len() / width;
        match self {
            Pool::Cls => out.extend_from_slice(&states[..width]),
            Pool::Last => out.extend_from_slice(&states[states.len() - width..]),
            Pool::Max => {
                let channel = |j: usize| states.iter().skip(j).step_by(width);
                let most =
                    |j| channel(j).fold(f32::NEG_INFINITY, |a, v| if *v > a { *v } else { a });
                out.extend((0..width).map(most));
            }
            Pool::Mean | Pool::MeanSqrtLen | Pool::WeightedMean => {
                let weight = |i: usize| match self {
                    Pool::WeightedMean => (i + 1) as f64,
                    _ => 1.0,
                };
                let mut sums = vec![0.0f64; width];
                for (i, row) in states.chunks(width).enumerate() {
                    for (sum, v) in sums.iter_mut().zip(row) {
                        *sum += weight(i) * f64::from(*v);
                    }
                }
                let by = match self {
                    Pool::MeanSqrtLen => (tokens as f64).sqrt(),
                    _ => (0..tokens).map(weight).sum(),
                };
                out.extend(sums.iter().map(|sum| (sum / by) as f32));
            }
        }
    }
}

/// One vector per text: those of `pools` side by side, over their length if `normalize`.
pub(super) fn pooled(
    states: &[f32],
    width: usize,
    texts: &[Text],
    (pools, normalize): (&[Pool], bool),
) -> Vec<f32> {
    let mut out = Vec::with_capacity(texts.len() * pools.len() * width);
    let mut rest = states;
    for text in texts {
        let (own, behind) = rest.split_at(text.length * width);
        let start = out.len();
        for pool in pools {
            pool.push(own, width, &mut out);
        }
        if normalize {
            unit(&mut out[start..]);
        }
        rest = behind;
    }
    out
}

/// Divides a vector by its length; zeros stay zeros.
fn unit(vector: &mut [f32]) {
    let squares = vector.iter().map(|v| f64::from(*v) * f64::from(*v));
    let length = squares.sum::<f64>().sqrt().max(1e-12);
    for v in vector {
        *v = (f64::from(*v) / length) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pool: Pool) -> Vec<f32> {
        let states = [1.0, -8.0, 4.0, 0.0, 7.0, 2.0, 4.0, 4.0, -4.0, -1.0];
        let texts = [Text::single(4), Text::single(1)];
        pooled(&states, 2, &texts, (&[pool], false))
    }

    #[test]
    fn each_text_gets_its_own_vector() {
        assert_eq!(of(Pool::Cls), [1.0, -8.0, -4.0, -1.0]);
        assert_eq!(of(Pool::Mean), [4.0, -0.5, -4.0, -1.0]);
        assert_eq!(of(Pool::Max), [7.0, 4.0, -4.0, -1.0]);
        assert_eq!(of(Pool::MeanSqrtLen), [8.0, -1.0, -4.0, -1.0]);
        assert_eq!(of(Pool::WeightedMean), [4.6, 1.4, -4.0, -1.0]);
        assert_eq!(of(Pool::Last), [4.0, 4.0, -4.0, -1.0]);
    }

    #[test]
    fn vectors_side_by_side_are_normalized_together() {
        let pools = [Pool::Cls, Pool::Last];
        let found = pooled(&[3.0, 0.0, 4.0, 0.0], 2, &[Text::single(2)], (&pools, true));
        assert_eq!(found, [0.6, 0.0, 0.8, 0.0]);
        let zeros = pooled(&[0.0, 0.0], 2, &[Text::single(1)], (&pools, true));
        assert_eq!(zeros, [0.0; 4]);
    }

    #[test]
    fn an_unknown_pooling_names_the_nearest() {
        let e = Pool::parse("lasttokens").unwrap_err();
        assert_eq!(
            (e.code, e.remedy.as_str()),
            (Code::Option, "did you mean \"lasttoken\"?")
        );
    }
}
