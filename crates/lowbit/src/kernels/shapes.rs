//! Sizes and numbers that kernels are tried on.

/// Lengths around the borders of vectors, panels and blocks.
pub(crate) const LENGTHS: [usize; 13] = [1, 2, 3, 7, 8, 9, 31, 32, 33, 127, 128, 129, 257];

/// Matrices `(m, rows, cols)`: lengths paired so that each meets small and large ones, in linear
/// time; then one shape of a Llama model.
pub(crate) fn products() -> Vec<(usize, usize, usize)> {
    let n = LENGTHS.len();
    let mut shapes: Vec<_> = (0..n)
        .flat_map(|i| {
            let m = [1, 2, 3, 4, 5, 13][i % 6];
            [
                (m, LENGTHS[i], LENGTHS[(i * 5 + 3) % n]),
                (
                    LENGTHS[i].min(40),
                    LENGTHS[(i * 7 + 1) % n],
                    LENGTHS[(i + 6) % n],
                ),
            ]
        })
        .collect();
    shapes.push((1, 2048, 5632));
    shapes
}

/// Groups of columns with `(rows, groups, group)`: borders of steps, of blocks and of the longest
/// group that stays whole.
pub(crate) const GROUPS: [(usize, usize, usize); 12] = [
    (1, 1, 1),
    (17, 3, 4),
    (16, 5, 7),
    (33, 4, 8),
    (64, 3, 9),
    (31, 9, 31),
    (65, 12, 32),
    (128, 1, 33),
    (48, 4, 127),
    (80, 3, 128),
    (15, 2, 257),
    (130, 1, 640),
];

/// A reproducible stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 32 bits (xorshift64*).
    pub(crate) fn bits(&mut self) -> u32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    }

    /// A number in −1..1.
    pub(crate) fn signed(&mut self) -> f32 {
        self.bits() as i32 as f32 / 2_147_483_648.0
    }

    /// `n` numbers: random in even thirds, of prime period in odd ones, some of them zero.
    pub(crate) fn values(&mut self, n: usize) -> Vec<f32> {
        let periodic = |i: usize| (i * 7919 % 127) as f32 / 64.0 - 1.0;
        (0..n)
            .map(|i| match i * 3 / n.max(1) {
                1 => periodic(i),
                _ if i % 53 == 52 => 0.0,
                _ => self.signed(),
            })
            .collect()
    }
}
