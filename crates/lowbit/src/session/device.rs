//! The GPU's part of an engine; without the `gpu` feature, types that nothing can have.

#[cfg(feature = "gpu")]
pub use crate::gpu::{GpuCache, GpuModel};

#[cfg(not(feature = "gpu"))]
pub use absent::{GpuCache, GpuModel};

#[cfg(not(feature = "gpu"))]
mod absent {
    use crate::error::Result;
    use crate::model::{Block, Stored};
    use crate::session::{Output, Want};

    /// No cache can be on a GPU.
    #[derive(Debug)]
    pub enum GpuCache {}

    /// No block can be on a GPU.
    #[derive(Debug)]
    pub enum GpuModel {}

    impl GpuCache {
        /// Never called.
        pub fn truncate(&mut self, _len: usize) {
            match *self {}
        }
    }

    impl GpuModel {
        /// Never called.
        pub fn layers(&self) -> usize {
            match *self {}
        }

        /// Never called.
        pub fn push_block(&mut self, _block: Block<Stored>) -> Result<()> {
            match *self {}
        }

        /// Never called.
        pub fn set_head(&mut self, _norm: &[f32], _head: Stored) -> Result<()> {
            match *self {}
        }

        /// Never called.
        pub fn context_max(&self) -> usize {
            match *self {}
        }

        /// Never called.
        pub fn new_cache(&self, _capacity_tokens: usize) -> Result<GpuCache> {
            match *self {}
        }

        /// Never called.
        #[expect(clippy::unused_async, reason = "same shape as with a GPU")]
        pub async fn forward(
            &self,
            _cache: &mut GpuCache,
            _hidden: &[f32],
            _want: Want,
        ) -> Result<Output> {
            match *self {}
        }
    }
}
