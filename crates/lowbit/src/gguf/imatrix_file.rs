//! Importance matrices as files that came with a request.

use super::imatrix::Imatrix;
use crate::error::{Code, Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// An importance matrix as the facade read it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ImatrixFile {
    /// Its name, for messages and for the metadata of what is made with it.
    pub file: String,
    /// Its bytes in base64.
    pub base64: String,
}

impl ImatrixFile {
    /// Reads it; `imatrix` and the codes of `Imatrix::parse`, with the file's name.
    pub fn parse(&self) -> Result<Imatrix> {
        let bytes = STANDARD.decode(&self.base64).map_err(|e| {
            Error::new(Code::Imatrix, format!("the bytes are not base64: {e}")).at(&self.file)
        })?;
        Imatrix::parse(&bytes).map_err(|e| e.at(&self.file))
    }
}
