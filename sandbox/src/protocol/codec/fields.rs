//! Fields of a message: numbers, texts, options.

use pinfold_policy::PluginId;

use super::{CodecError, ITEMS_LIMIT, VERSION};
use crate::protocol::{PACKET_LIMIT_BYTES, RequestId};

/// A message that is written.
pub(super) struct Writer {
    pub(super) bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(128),
        }
    }

    pub(super) fn header(&mut self, kind: u8, id: RequestId) {
        self.u8(VERSION);
        self.u8(kind);
        self.u32(id);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_be_bytes());
    }

    pub(super) fn text(&mut self, field: &'static str, text: &str) -> Result<(), CodecError> {
        let length = u16::try_from(text.len()).map_err(|_| CodecError::Limit {
            field,
            found: text.len(),
            limit: u16::MAX.into(),
        })?;
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend(text.as_bytes());
        Ok(())
    }

    pub(super) fn plugin(&mut self, plugin: &PluginId) -> Result<(), CodecError> {
        self.text("plugin", plugin.as_str())
    }

    pub(super) fn count(&mut self, field: &'static str, found: usize) -> Result<(), CodecError> {
        match u8::try_from(found) {
            Ok(count) if found <= ITEMS_LIMIT => {
                self.u8(count);
                Ok(())
            }
            _ => Err(CodecError::Limit {
                field,
                found,
                limit: ITEMS_LIMIT,
            }),
        }
    }

    pub(super) fn option<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut Self, T) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        self.u8(value.is_some().into());
        value.map_or(Ok(()), |value| write(self, value))
    }

    pub(super) fn finish(self) -> Result<Vec<u8>, CodecError> {
        match self.bytes.len() {
            bytes if bytes > PACKET_LIMIT_BYTES => Err(CodecError::TooLong { bytes }),
            _ => Ok(self.bytes),
        }
    }
}

/// What is left of a message that is read.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(
        &mut self,
        field: &'static str,
        length: usize,
    ) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(CodecError::Short { field })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], CodecError> {
        self.take(field, N)?
            .try_into()
            .map_err(|_| CodecError::Short { field })
    }

    pub(super) fn u8(&mut self, field: &'static str) -> Result<u8, CodecError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self, field: &'static str) -> Result<u16, CodecError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, field: &'static str) -> Result<u32, CodecError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self, field: &'static str) -> Result<u64, CodecError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(super) fn i32(&mut self, field: &'static str) -> Result<i32, CodecError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(super) fn text(&mut self, field: &'static str) -> Result<String, CodecError> {
        let length = self.u16(field)?;
        let bytes = self.take(field, length.into())?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(CodecError::Text { field }),
        }
    }

    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, CodecError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(CodecError::Value { field, value }),
        }
    }

    pub(super) fn option<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, CodecError>,
    ) -> Result<Option<T>, CodecError> {
        match self.flag(field)? {
            true => read(self).map(Some),
            false => Ok(None),
        }
    }

    pub(super) fn count(&mut self, field: &'static str) -> Result<usize, CodecError> {
        match usize::from(self.u8(field)?) {
            found if found > ITEMS_LIMIT => Err(CodecError::Limit {
                field,
                found,
                limit: ITEMS_LIMIT,
            }),
            found => Ok(found),
        }
    }

    pub(super) fn plugin(&mut self) -> Result<PluginId, CodecError> {
        PluginId::parse(&self.text("plugin")?).map_err(CodecError::Plugin)
    }

    pub(super) fn header(&mut self) -> Result<(u8, RequestId), CodecError> {
        match self.u8("version")? {
            VERSION => Ok((self.u8("type")?, self.u32("request number")?)),
            version => Err(CodecError::Version { version }),
        }
    }

    pub(super) fn end(&self) -> Result<(), CodecError> {
        match self.0.len() {
            0 => Ok(()),
            bytes => Err(CodecError::Trailing { bytes }),
        }
    }
}
