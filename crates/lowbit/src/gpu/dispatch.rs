//! One recorded kernel launch: pipeline, bound buffers, and how many workgroups for how many tokens.

use super::device::Gpu;
use super::pipeline::Pipeline;
use std::sync::Arc;

/// Most workgroups in one dimension of a dispatch, on every device.
const DIMENSION: u32 = 65_535;

/// Columns to which rows of activations and weights are padded: one block of the products.
pub(crate) const BLOCK: usize = 32;

/// A width padded to whole blocks; the pad of an activation is always zero.
pub(crate) const fn align(width: usize) -> usize {
    width.next_multiple_of(BLOCK)
}

/// How many workgroups a kernel needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grid {
    /// `ceil(tokens · per_token / per_group)`.
    Spread {
        /// Threads or rows that a token needs.
        per_token: u32,
        /// Threads or rows that a workgroup does.
        per_group: u32,
    },
    /// `count` for each tile of `tokens` tokens; the tile is the third dimension.
    Tiles {
        /// Workgroups of one tile.
        count: u32,
        /// Tokens that one tile covers.
        tokens: u32,
    },
}

impl Grid {
    /// Workgroups in x, y and z; counts above 65,535 are folded into y.
    pub(crate) fn workgroups(self, tokens: u32) -> [u32; 3] {
        let (count, z) = match self {
            Self::Spread {
                per_token,
                per_group,
            } => {
                let count =
                    (u64::from(tokens) * u64::from(per_token)).div_ceil(u64::from(per_group));
                (
                    u32::try_from(count).expect("a chunk of activations fits a binding"),
                    1,
                )
            }
            Self::Tiles {
                count,
                tokens: tile,
            } => (count, tokens.div_ceil(tile)),
        };
        let y = count.div_ceil(DIMENSION).max(1);
        [count.div_ceil(y), y, z]
    }
}

/// A kernel with everything that it is bound to.
#[derive(Debug)]
pub(crate) struct Dispatch {
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) group: Arc<wgpu::BindGroup>,
    pub(crate) grid: Grid,
}

impl Dispatch {
    /// Binds whole buffers in the shader's order.
    pub(crate) fn new(
        gpu: &Gpu,
        pipeline: Arc<Pipeline>,
        buffers: &[&wgpu::Buffer],
        grid: Grid,
    ) -> Self {
        let bindings: Vec<_> = buffers
            .iter()
            .map(|b| b.as_entire_buffer_binding())
            .collect();
        Self::of_ranges(gpu, pipeline, &bindings, grid)
    }

    /// Binds parts of buffers in the shader's order.
    pub(crate) fn of_ranges(
        gpu: &Gpu,
        pipeline: Arc<Pipeline>,
        ranges: &[wgpu::BufferBinding<'_>],
        grid: Grid,
    ) -> Self {
        let entries: Vec<_> = (0u32..)
            .zip(ranges)
            .map(|(binding, range)| wgpu::BindGroupEntry {
                binding,
                resource: wgpu::BindingResource::Buffer(range.clone()),
            })
            .collect();
        let group = gpu.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(pipeline.file),
            layout: &pipeline.layout,
            entries: &entries,
        });
        Self {
            pipeline,
            group: Arc::new(group),
            grid,
        }
    }

    /// The same buffers under another pipeline of equal bindings.
    pub(crate) fn with(&self, pipeline: Arc<Pipeline>, grid: Grid) -> Self {
        Self {
            pipeline,
            group: Arc::clone(&self.group),
            grid,
        }
    }

    /// Records the launch for `tokens` tokens.
    pub(crate) fn record(&self, pass: &mut wgpu::ComputePass<'_>, tokens: u32) {
        let [x, y, z] = self.grid.workgroups(tokens);
        pass.set_pipeline(&self.pipeline.compute);
        pass.set_bind_group(0, &*self.group, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_workgroups_than_a_dimension_holds_are_folded() {
        let grid = Grid::Tiles {
            count: 262_144,
            tokens: 32,
        };
        let [x, y, z] = grid.workgroups(33);
        assert!(x <= DIMENSION && y <= DIMENSION);
        assert!(u64::from(x) * u64::from(y) >= 262_144);
        assert_eq!(z, 2);
        assert_eq!(
            Grid::Spread {
                per_token: 3,
                per_group: 2
            }
            .workgroups(3),
            [5, 1, 1]
        );
    }
}
