//! What calibration sees of a pass.

use super::ops::Part;
use crate::error::Result;

/// Sees the shared input `[tokens, width]` of linears before they run; `Op::inputs` lists the groups
/// of parts that it is called with. Experts that no token goes to have no call.
pub type Tap<'a> = &'a mut dyn FnMut(&[Part], &[f32]) -> Result<()>;

/// What a calibration pass wants of a block.
pub struct Watch<'a> {
    /// Sees the inputs.
    pub tap: Tap<'a>,
    /// Every expert sees every token, so that rare ones are calibrated too. The block's outputs
    /// are the same, up to rounding, as those of the experts that tokens are routed to.
    pub all_experts: bool,
    /// First part of the last group that is wanted: the pass ends once the tap has seen it, and
    /// the hidden state is of no use then.
    pub until: Option<Part>,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (all, until) = (self.all_experts, self.until);
        write!(f, "Watch(all_experts: {all}, until: {until:?})")
    }
}

impl Watch<'_> {
    /// Calls the tap; false when the pass is to end.
    pub(super) fn show(&mut self, parts: &[Part], x: &[f32]) -> Result<bool> {
        (self.tap)(parts, x)?;
        Ok(self.until.is_none() || self.until.as_ref() != parts.first())
    }
}
