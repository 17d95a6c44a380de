//! Searches of a single block: the scales of a super-block, which are blocks of 8 or 16 values.

use super::lanes::{LANES, nearest};
use super::search::EPS;

/// Scale and codes 0..=`most` of values ≥ 0 under weights: nine scales, then coordinate descent.
pub(super) fn positive(x: &[f32], w: &[f32], most: i32, codes: &mut [u8]) -> f32 {
    let max = x.iter().fold(0.0f32, |m, v| if *v > m { *v } else { m });
    codes.fill(0);
    if max < EPS {
        return 0.0;
    }
    let top = most as f32;
    let error = |inverse: f32, cap: bool| {
        let scale = 1.0 / inverse;
        x.iter().zip(w).fold(0.0f32, |sum, (x, w)| {
            let l = nearest(inverse * x);
            let diff = x - scale * (if cap { l.min(most) } else { l }) as f32;
            sum + w * diff * diff
        })
    };
    let mut inverse = top / max;
    let mut least = error(inverse, false);
    for step in (-4..=4).filter(|s| *s != 0) {
        let tried = (0.1 * step as f32 + top) / max;
        let found = error(tried, true);
        if found < least {
            (least, inverse) = (found, tried);
        }
    }
    let mut held = [0i32; LANES];
    let (mut lx, mut l2) = (0.0f32, 0.0f32);
    for ((x, w), l) in x.iter().zip(w).zip(&mut held) {
        *l = nearest(inverse * x).min(most);
        lx += w * x * *l as f32;
        l2 += w * *l as f32 * *l as f32;
    }
    for _ in 0..5 {
        let mut changed = false;
        for ((x, w), held) in x.iter().zip(w).zip(&mut held) {
            let l = *held as f32;
            let (ox, o2) = (lx - w * x * l, l2 - w * l * l);
            if ox > 0.0 && o2 > 0.0 {
                let new = nearest(x * o2 / ox).min(most);
                let l = new as f32;
                let (nx, n2) = (ox + w * x * l, o2 + w * l * l);
                if new != *held && nx * nx * l2 > lx * lx * n2 {
                    (*held, lx, l2, changed) = (new, nx, n2, true);
                }
            }
        }
        if !changed {
            break;
        }
    }
    for (code, l) in codes.iter_mut().zip(held) {
        *code = l as u8;
    }
    if l2 > 0.0 { lx / l2 } else { 0.0 }
}

/// `symmetric` of a single block with codes from 0: the scales of a super-block.
pub(super) fn symmetric_one(x: &[f32], w: &[f32], most: i32, codes: &mut [u8]) -> f32 {
    let wider = |m: f32, v: &f32| if v.abs() > m.abs() { *v } else { m };
    let max = x.iter().fold(0.0, wider);
    codes.fill(0);
    if max.abs() < EPS {
        return 0.0;
    }
    let code = |inverse: f32, x: f32| nearest(inverse * x).min(most - 1).max(-most);
    let moments = |inverse: f32| {
        x.iter().zip(w).fold((0.0f32, 0.0f32), |(lx, l2), (x, w)| {
            let l = code(inverse, *x) as f32;
            (lx + w * x * l, l2 + w * l * l)
        })
    };
    let top = most as f32;
    let mut inverse = -top / max;
    let (lx, l2) = moments(inverse);
    let mut scale = if l2 == 0.0 { 0.0 } else { lx / l2 };
    let mut best = scale * lx;
    for step in (-9..=9).filter(|s| *s != 0) {
        let tried = -(top + 0.1 * step as f32) / max;
        let (lx, l2) = moments(tried);
        if l2 > 0.0 && lx * lx > best * l2 {
            scale = lx / l2;
            (best, inverse) = (scale * lx, tried);
        }
    }
    for (c, x) in codes.iter_mut().zip(x) {
        *c = (code(inverse, *x) + most) as u8;
    }
    scale
}
