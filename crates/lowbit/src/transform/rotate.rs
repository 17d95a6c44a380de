//! Rotations fused into weights (QuaRot, arXiv 2404.00456; R1 and R2 of SpinQuant, 2405.16406):
//! outliers of single channels are spread over all of them, at no cost when the model runs.
//!
//! ```text
//! R1   embedding·R   W_o ← Rᵀ·W_o   W_down ← Rᵀ·W_down      what writes the residual stream
//!      W ← W·diag(norm)·R,  norm ← 1                        what reads it, the head too
//! R2   W_v ← Rᵀ·W_v   W_o ← W_o·R                           for each head alike
//! ```
//! R = D·H with a Hadamard matrix H and signs D, which are 1 unless they are drawn. Products are
//! summed in f64. A model whose head is its embedding has two matrices afterwards.

use super::flow::{Flow, Reader, Source};
use super::hadamard::{Hadamard, LANES, Lanes};
use super::{FloatBlock, matrix_mut, vector_mut};
use crate::cpu::Cpu;
use crate::error::{Code, Error, Result};
use crate::job::recipe::Rotate;
use crate::model::config::Config;
use crate::model::ops::Part;
use crate::session::random::Pcg32;

/// Columns whose vectors are gathered at once.
const COLUMNS: usize = 64 * LANES;

/// The rotations of one model.
#[derive(Debug)]
pub struct Rotation {
    r1: Option<Turn>,
    /// One per block.
    r2: Vec<Option<Turn>>,
    layers: Vec<Places>,
}

/// D·H.
#[derive(Debug, Clone)]
struct Turn {
    signs: Vec<f64>,
    hadamard: Hadamard,
}

/// The parts of a block that rotations change.
#[derive(Debug, Default)]
struct Places {
    /// Norms of the residual stream, each with the linears that read it.
    norms: Vec<(Part, Vec<Part>)>,
    /// Linears that read the residual stream without a norm.
    readers: Vec<Part>,
    /// Linears whose outputs are added to the residual stream.
    writers: Vec<Part>,
    /// Linears whose last rows make values, and linears that read what attention makes of them.
    values: Vec<(Part, Vec<Part>)>,
    /// How many rows those are.
    value_rows: usize,
}

impl Rotation {
    /// Checks that the family permits the rotations and draws their signs.
    ///
    /// `unsupported` with the place of a block that a rotation would change the function of, or
    /// when a width is odd.
    pub fn new(config: &Config, options: &Rotate, seed: u64) -> Result<Self> {
        let places = |layer| Places::find(config, layer, options);
        let turn = |on: bool, n: usize, stream: u64| {
            on.then(|| Turn::new(n, options.random.then(|| Pcg32::new(seed, stream))))
                .transpose()
        };
        let head = |layer: usize| turn(options.r2, config.head_dim, 2 + layer as u64);
        Ok(Self {
            layers: (0..config.layers).map(places).collect::<Result<_>>()?,
            r1: turn(options.r1, config.hidden, 1)?,
            r2: (0..config.layers).map(head).collect::<Result<_>>()?,
        })
    }

    /// Rotates the matrices of block `layer`; norms of the residual stream become 1.
    pub fn fuse_block(&self, cpu: &Cpu, layer: usize, block: &mut FloatBlock) {
        let places = &self.layers[layer];
        if let Some(turn) = &self.r1 {
            for (norm, linears) in &places.norms {
                let g = std::mem::take(vector_mut(block, *norm));
                for part in linears {
                    let (matrix, _) = matrix_mut(block, *part);
                    turn.columns(cpu, &mut matrix.values, Some(&g));
                }
                *vector_mut(block, *norm) = vec![1.0; g.len()];
            }
            for part in &places.readers {
                turn.columns(cpu, &mut matrix_mut(block, *part).0.values, None);
            }
            for part in &places.writers {
                let (matrix, bias) = matrix_mut(block, *part);
                turn.rows(cpu, &mut matrix.values, matrix.cols);
                if let Some(bias) = bias {
                    turn.columns(cpu, bias, None);
                }
            }
        }
        if let Some(turn) = &self.r2[layer] {
            for (values, linears) in &places.values {
                let (matrix, bias) = matrix_mut(block, *values);
                let first = matrix.rows - places.value_rows;
                turn.rows(cpu, &mut matrix.values[first * matrix.cols..], matrix.cols);
                if let Some(bias) = bias {
                    turn.columns(cpu, &mut bias[first..], None);
                }
                for part in linears {
                    turn.columns(cpu, &mut matrix_mut(block, *part).0.values, None);
                }
            }
        }
    }

    /// Rotates rows of the embedding, `[rows, hidden]`.
    pub fn embedding_rows(&self, cpu: &Cpu, rows: &mut [f32]) {
        if let Some(turn) = &self.r1 {
            turn.columns(cpu, rows, None);
        }
    }

    /// Rotates rows of the head, `[rows, hidden]`, and takes the final norm into them, which
    /// becomes 1 then; without R1 rows and norm stay as they are.
    pub fn head_rows(&self, cpu: &Cpu, rows: &mut [f32], final_norm: &[f32]) {
        if let Some(turn) = &self.r1 {
            turn.columns(cpu, rows, Some(final_norm));
        }
    }

    /// Whether the residual stream is rotated: then the final norm becomes 1, and head and
    /// embedding differ.
    pub fn changes_head(&self) -> bool {
        self.r1.is_some()
    }
}

impl Turn {
    fn new(n: usize, random: Option<Pcg32>) -> Result<Self> {
        let hadamard = Hadamard::new(n);
        if hadamard.block() < 2 {
            let what = format!("a width of {n} has no Hadamard matrix");
            return Err(Error::new(Code::Unsupported, what).remedy("leave the rotation out"));
        }
        let signs = match random {
            None => vec![1.0; n],
            Some(mut random) => {
                let sign = |bit: u32| if bit == 0 { 1.0 } else { -1.0 };
                (0..n).map(|_| sign(random.next_u32() >> 31)).collect()
            }
        };
        Ok(Self { signs, hadamard })
    }

    /// `w · diag(g) · R` for each run of `order` values: rows of a matrix, or heads of rows.
    fn columns(&self, cpu: &Cpu, values: &mut [f32], g: Option<&[f32]>) {
        let n = self.signs.len();
        let factor = |i: usize| self.signs[i] * g.map_or(1.0, |g| f64::from(g[i]));
        let factors: Vec<f64> = (0..n).map(factor).collect();
        cpu.run_chunks(values, n * LANES, values.len() > 1 << 14, |_, runs| {
            let mut x = vec![[0.0; LANES]; n];
            for (lane, run) in runs.chunks_exact(n).enumerate() {
                for ((x, w), f) in x.iter_mut().zip(run).zip(&factors) {
                    x[lane] = f64::from(*w) * f;
                }
            }
            self.hadamard.apply(&mut x);
            for (lane, run) in runs.chunks_exact_mut(n).enumerate() {
                run.iter_mut()
                    .zip(&x)
                    .for_each(|(w, x)| *w = x[lane] as f32);
            }
        });
    }

    /// `Rᵀ · w` for each run of `order` rows of a matrix with `cols` columns.
    fn rows(&self, cpu: &Cpu, values: &mut [f32], cols: usize) {
        for run in values.chunks_exact_mut(self.signs.len() * cols) {
            for first in (0..cols).step_by(COLUMNS) {
                self.strips(cpu, run, cols, first..cols.min(first + COLUMNS));
            }
        }
    }

    /// The same for some columns of one run of rows.
    fn strips(&self, cpu: &Cpu, run: &mut [f32], cols: usize, columns: std::ops::Range<usize>) {
        let n = self.signs.len();
        let from = &*run;
        let mut strips: Vec<Vec<Lanes>> = vec![Vec::new(); columns.len().div_ceil(LANES)];
        cpu.run_chunks(&mut strips, 1, n * columns.len() > 1 << 14, |s, strip| {
            let first = columns.start + s * LANES;
            let width = LANES.min(columns.end - first);
            let mut x = vec![[0.0; LANES]; n];
            for ((x, row), sign) in x.iter_mut().zip(from.chunks_exact(cols)).zip(&self.signs) {
                for (x, w) in x.iter_mut().zip(&row[first..first + width]) {
                    *x = f64::from(*w) * sign;
                }
            }
            self.hadamard.apply(&mut x);
            strip[0] = x;
        });
        for (s, strip) in strips.iter().enumerate() {
            let first = columns.start + s * LANES;
            for (row, x) in run.chunks_exact_mut(cols).zip(strip) {
                let row = &mut row[first..columns.end.min(first + LANES)];
                row.iter_mut().zip(x).for_each(|(w, x)| *w = *x as f32);
            }
        }
    }
}

impl Places {
    /// `unsupported` with the reason when a rotation would change the function of the block.
    fn find(config: &Config, layer: usize, options: &Rotate) -> Result<Self> {
        let flow = Flow::new(config, layer);
        let mut places = Self {
            value_rows: config.kv_heads * config.head_dim,
            ..Self::default()
        };
        let refuse = |rotation: &str, why: String| {
            let what = format!("{} does not permit {rotation}: {why}", config.arch().name);
            Err(Error::new(Code::Unsupported, what)
                .at(format!("block {layer}"))
                .remedy(format!("leave {rotation} out")))
        };
        if options.r1
            && let Err(why) = places.find_residual(&flow)
        {
            return refuse("r1", why);
        }
        if options.r2
            && let Err(why) = places.find_values(&flow)
        {
            return refuse("r2", why);
        }
        Ok(places)
    }

    fn find_residual(&mut self, flow: &Flow) -> std::result::Result<(), String> {
        for (i, value) in flow.values.iter().enumerate() {
            match &value.source {
                Source::Residual => self.readers.extend(linears(flow, i).ok_or_else(|| {
                    "something other than norms and linears reads the residual stream".to_owned()
                })?),
                Source::Norm { part, of } if flow.values[*of].source == Source::Residual => {
                    let linears = linears(flow, i).ok_or_else(|| {
                        format!("{part:?} is read by something other than linears")
                    })?;
                    self.norms.push((*part, linears));
                }
                _ => {}
            }
            if value.readers.contains(&Reader::Residual) {
                let Source::Linears(parts) = &value.source else {
                    let why = "what is added to the residual stream does not come from a linear";
                    return Err(why.into());
                };
                self.writers.extend(parts);
            }
        }
        Ok(())
    }

    fn find_values(&mut self, flow: &Flow) -> std::result::Result<(), String> {
        for value in &flow.values {
            for reader in &value.readers {
                let Reader::Attention(attended) = reader else {
                    continue;
                };
                let linears = linears(flow, *attended);
                let part = match &value.source {
                    Source::LastRows(part) => Some(*part),
                    Source::Linears(parts) if parts.len() == 1 => Some(parts[0]),
                    _ => None,
                };
                match (part, &*value.readers, linears) {
                    (Some(part), [_], Some(linears)) => self.values.push((part, linears)),
                    _ => return Err("values or attention's output pass more than linears".into()),
                }
            }
        }
        Ok(())
    }
}

/// The linears that read a value; none when something else does.
fn linears(flow: &Flow, value: usize) -> Option<Vec<Part>> {
    let part = |reader: &Reader| match reader {
        Reader::Linear(part) => Some(*part),
        _ => None,
    };
    flow.values[value].readers.iter().map(part).collect()
}
