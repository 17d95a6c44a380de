//! Arrays that JavaScript hands over.

use napi::Result;
use napi::bindgen_prelude::{ArrayBuffer, JsObjectValue, TypedArray};

/// The bytes of arrays that are handed over: JavaScript's memory cannot be kept, so it is copied.
pub(crate) fn taken(arrays: &[TypedArray<'_>]) -> Result<Vec<Vec<u8>>> {
    let bytes = arrays.iter().map(|a| a.arraybuffer.to_vec()).collect();
    free(arrays)?;
    Ok(bytes)
}

/// Gives the memory of arrays back at once; one that is a part of a larger buffer is left alone.
///
/// The collector of a process that makes few small objects runs late, and would keep the last
/// blocks of a model beside the current one.
pub(crate) fn free(arrays: &[TypedArray<'_>]) -> Result<()> {
    for array in arrays {
        let whole: ArrayBuffer<'_> = array.get_named_property_unchecked("buffer")?;
        if !whole.is_empty() && whole.len() == array.arraybuffer.len() {
            whole.detach()?;
        }
    }
    Ok(())
}
