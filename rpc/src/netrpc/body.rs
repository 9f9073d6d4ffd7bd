//! An argument or reply that has arrived and is not decoded yet.
use pinfold_gob::{DecodeError, Decoder, Value, WireType};
use serde::de::DeserializeOwned;

/// The body of a request or reply, whole in the buffer. One that is dropped undecoded is passed over.
pub struct Body<'a> {
    decoder: &'a mut Decoder,
    wire_type: WireType,
    taken: bool,
}

impl<'a> Body<'a> {
    pub(super) fn new(decoder: &'a mut Decoder, wire_type: WireType) -> Self {
        Self {
            decoder,
            wire_type,
            taken: false,
        }
    }

    /// Its type, as the peer defined it.
    pub fn wire_type(&self) -> &WireType {
        &self.wire_type
    }

    /// Decodes it. An error is about this body alone: the conversation goes on.
    pub fn decode<T: DeserializeOwned>(mut self) -> Result<T, DecodeError> {
        self.taken = true;
        whole(self.decoder.decode()?)
    }

    /// Decodes it, whatever its type.
    pub fn value(mut self) -> Result<Value, DecodeError> {
        self.taken = true;
        whole(self.decoder.decode_value()?)
    }
}

/// A body is made when its value is wholly buffered, so that decoding it never lacks bytes.
fn whole<T>(value: Option<T>) -> Result<T, DecodeError> {
    value.ok_or(DecodeError::Broken)
}

impl Drop for Body<'_> {
    fn drop(&mut self) {
        if !self.taken {
            // An error would show at the next header.
            self.decoder.skip().ok();
        }
    }
}
