//! An argument or reply that has arrived and is not decoded yet.
use pinfold_gob::{DecodeError, Decoder, Value, WireType};
use serde::de::DeserializeOwned;

/// The body of a request or reply, whole in the buffer. One that is dropped undecoded is passed over.
pub struct Body<'a> {
    decoder: &'a mut Decoder,
    taken: bool,
}

impl<'a> Body<'a> {
    /// `decoder` has a value ready.
    pub(super) fn new(decoder: &'a mut Decoder) -> Self {
        Self {
            decoder,
            taken: false,
        }
    }

    /// Its type, as the peer defined it.
    ///
    /// # Errors
    /// None that [`decode`](Self::decode) would not have.
    pub fn wire_type(&mut self) -> Result<WireType, DecodeError> {
        whole(self.decoder.peek_type()?)
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
