//! Refines a rounded tile: by turns the scale of each group and each code, given all the others.
//!
//! With errors `d = w − q` and `g = H·d`, both have a closed form under `dᵀ·H·d`:
//!
//! ```text
//! scale of a group with codes c    s ← s + c·g / cᵀ·H·c, rounded to its stored type
//! code of column j                 q_j ← the grid's nearest to q_j + g_j / H_jj
//! ```
//! A block of columns takes in its own changes at once; the others get them as one product. Each
//! step can only lower the error. (Cyclic coordinate descent, as QuantEase has it for codes,
//! arXiv 2309.01885.)

use super::gptq_tile::{Rounded, Tile};
use super::lazy::{errors_asked, sums};
use crate::linalg::{LANES, Lanes, multiply_add};
use crate::tensor::round_to;

/// Columns that take in their own changes at once.
const BLOCK: usize = crate::linalg::DEPTH;
/// 1.5 · 2²³: adding it rounds to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;

/// Strips of a tile in the original order of columns.
struct State<'a> {
    h: &'a [f32],
    n: usize,
    group: usize,
    centre: f32,
    /// `w − q`.
    errors: Vec<Vec<Lanes>>,
    /// H times them.
    slopes: Vec<Vec<Lanes>>,
    /// Codes less their zero.
    steps: Vec<Vec<Lanes>>,
    /// Per group.
    scales: Vec<Vec<Lanes>>,
    /// Per group, signed.
    zeros: Vec<Vec<Lanes>>,
}

/// Refines `out`, `rounds` times over; `h` is the damped H `[n, n]` in the original order.
#[inline(always)]
pub(super) fn refine<const FMA: bool, const M: usize>(
    tile: &Tile<'_>,
    h: &[f32],
    rounds: usize,
    out: &mut Rounded,
) {
    let mut state = State::new::<FMA, M>(tile, h, out);
    let (n, group) = (state.n, state.group);
    // Whole groups where they are short.
    let block = (BLOCK / group).max(1) * group;
    let block = block.min(BLOCK);
    for _ in 0..rounds {
        for g in (0..n / group).filter(|_| group > BLOCK) {
            state.refine_scale::<FMA>(tile, g, (0, n));
        }
        for low in (0..n).step_by(block) {
            state.refine_block::<FMA, M>(tile, (low, (low + block).min(n)));
        }
    }
    state.store(out);
}

impl<'a> State<'a> {
    #[inline(always)]
    fn new<const FMA: bool, const M: usize>(tile: &Tile<'_>, h: &'a [f32], out: &Rounded) -> Self {
        let (n, group) = (tile.factor.columns.len(), tile.spec.group);
        let (rows, groups) = (tile.weights.len() / n, n / group);
        let strips = rows.div_ceil(LANES);
        let centre = f32::from(1u8 << (tile.spec.bits - 1));
        let mut errors = vec![vec![[0.0; LANES]; n]; strips];
        let mut steps = errors.clone();
        let mut scales = vec![vec![[1.0; LANES]; groups]; strips];
        let mut zeros = vec![vec![[0.0; LANES]; groups]; strips];
        for r in 0..rows {
            let (strip, l) = (r / LANES, r % LANES);
            for g in 0..groups {
                scales[strip][g][l] = out.scales[r * groups + g];
                zeros[strip][g][l] = f32::from(out.zeros[r * groups + g]) - centre;
            }
            for j in 0..n {
                let step = f32::from(out.codes[r * n + j]) - centre - zeros[strip][j / group][l];
                steps[strip][j][l] = step;
                errors[strip][j][l] = tile.weights[r * n + j] - step * scales[strip][j / group][l];
            }
        }
        let mut slopes = vec![vec![[0.0; LANES]; n]; strips];
        add_product::<FMA, M>(h, n, (0, n), (&errors, (0, n)), &mut slopes);
        Self {
            h,
            n,
            group,
            centre,
            errors,
            slopes,
            steps,
            scales,
            zeros,
        }
    }

    #[inline(always)]
    fn refine_block<const FMA: bool, const M: usize>(
        &mut self,
        tile: &Tile<'_>,
        (low, high): (usize, usize),
    ) {
        let block = |strips: &[Vec<Lanes>]| -> Vec<Vec<Lanes>> {
            strips.iter().map(|s| s[low..high].to_vec()).collect()
        };
        let mut change = block(&self.errors);
        for j in low..high {
            if self.group <= BLOCK && j.is_multiple_of(self.group) {
                self.refine_scale::<FMA>(tile, j / self.group, (low, high));
            }
            for strip in 0..self.errors.len() {
                self.refine_code::<FMA>(tile, strip, j, (low, high));
            }
        }
        for (change, errors) in change.iter_mut().zip(&self.errors) {
            for (before, after) in change.iter_mut().zip(&errors[low..high]) {
                for (b, a) in before.iter_mut().zip(after) {
                    *b = a - *b;
                }
            }
        }
        let h = self.h;
        for rest in [(0, low), (high, self.n)] {
            add_product::<FMA, M>(h, self.n, rest, (&change, (low, high)), &mut self.slopes);
        }
    }

    /// Moves the scales of a group; slopes follow in the columns `scope`.
    #[inline(always)]
    fn refine_scale<const FMA: bool>(&mut self, tile: &Tile<'_>, g: usize, scope: (usize, usize)) {
        let (from, to) = (g * self.group, (g + 1) * self.group);
        for strip in 0..self.errors.len() {
            let steps = &self.steps[strip][from..to];
            // No closure: one is compiled without the instruction set of its caller.
            let mut pulls = vec![[0.0f32; LANES]; scope.1 - scope.0];
            for (pull, row) in pulls
                .iter_mut()
                .zip(self.h[scope.0 * self.n..].chunks(self.n))
            {
                *pull = errors_asked::<FMA>(&row[from..to], steps);
            }
            let (mut slope, mut curve) = ([0.0f32; LANES], [0.0f32; LANES]);
            for (i, step) in steps.iter().enumerate() {
                for l in 0..LANES {
                    slope[l] =
                        multiply_add::<FMA>(step[l], self.slopes[strip][from + i][l], slope[l]);
                    curve[l] = multiply_add::<FMA>(step[l], pulls[from - scope.0 + i][l], curve[l]);
                }
            }
            let mut moved = [0.0f32; LANES];
            let scales = &mut self.scales[strip][g];
            for l in 0..LANES {
                let new = round_to(tile.spec.scale_dtype, scales[l] + slope[l] / curve[l]);
                let by = new - scales[l];
                let gain = by * (2.0 * slope[l] - by * curve[l]);
                if new > 0.0 && new.is_finite() && gain > 0.0 {
                    (scales[l], moved[l]) = (new, by);
                }
            }
            for (error, step) in self.errors[strip][from..to].iter_mut().zip(steps) {
                for l in 0..LANES {
                    error[l] -= moved[l] * step[l];
                }
            }
            for (slope, pull) in self.slopes[strip][scope.0..scope.1].iter_mut().zip(&pulls) {
                for l in 0..LANES {
                    slope[l] -= moved[l] * pull[l];
                }
            }
        }
    }

    /// Moves the codes of a column; slopes follow in the columns `scope`.
    #[inline(always)]
    fn refine_code<const FMA: bool>(
        &mut self,
        tile: &Tile<'_>,
        strip: usize,
        j: usize,
        scope: (usize, usize),
    ) {
        let row = &self.h[j * self.n..(j + 1) * self.n];
        let (g, steps) = (j / self.group, &mut self.steps[strip][j]);
        let (scale, zero) = (self.scales[strip][g], self.zeros[strip][g]);
        let mut moved = [0.0f32; LANES];
        for l in 0..LANES {
            let target = steps[l] + self.slopes[strip][j][l] / (row[j] * scale[l]);
            let code = (target + zero[l]).clamp(-self.centre, self.centre - 1.0);
            let step = ((code + ROUND) - ROUND) - zero[l];
            let keep = tile.keeps(strip * LANES + l, j);
            let step = if keep { step } else { steps[l] };
            moved[l] = (step - steps[l]) * scale[l];
            steps[l] = step;
            self.errors[strip][j][l] -= moved[l];
        }
        if moved == [0.0; LANES] {
            return;
        }
        for (slope, h) in self.slopes[strip][scope.0..scope.1]
            .iter_mut()
            .zip(&row[scope.0..scope.1])
        {
            for (s, m) in slope.iter_mut().zip(&moved) {
                *s = multiply_add::<FMA>(-*h, *m, *s);
            }
        }
    }

    fn store(self, out: &mut Rounded) {
        let groups = self.n / self.group;
        let rows = out.codes.len() / self.n;
        (out.squared_error, out.weighted_error) = (0.0, 0.0);
        for r in 0..rows {
            let (strip, l) = (r / LANES, r % LANES);
            for g in 0..groups {
                out.scales[r * groups + g] = self.scales[strip][g][l];
            }
            for j in 0..self.n {
                let zero = self.zeros[strip][j / self.group][l];
                out.codes[r * self.n + j] = (self.steps[strip][j][l] + zero + self.centre) as u8;
                let error = f64::from(self.errors[strip][j][l]);
                out.squared_error += error * error;
                out.weighted_error += error * f64::from(self.slopes[strip][j][l]);
            }
        }
    }
}

/// `out[j] += Σ_i h[j, i] · values[i]` for columns j of `rows` and i of a range that `values` hold.
#[inline(always)]
fn add_product<const FMA: bool, const M: usize>(
    h: &[f32],
    n: usize,
    rows: (usize, usize),
    (values, (from, to)): (&[Vec<Lanes>], (usize, usize)),
    out: &mut [Vec<Lanes>],
) {
    for j in (rows.0..rows.1).step_by(M) {
        let width = M.min(rows.1 - j);
        let part = sums::<FMA, M>(&h[j * n + from..], n, width, (values, 0, to - from));
        for (out, part) in out.iter_mut().zip(&part) {
            for (out, part) in out[j..j + width].iter_mut().zip(part) {
                crate::linalg::add(out, part);
            }
        }
    }
}
