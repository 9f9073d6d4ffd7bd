//! Requests, encoded beforehand but for their numbers: gob of Go's `net/rpc`.

use anyhow::Context as _;

use super::wire::{message, number, put_number, put_text};

/// Gob's own numbers of types.
const BYTES: u8 = 5;
const STRING: u8 = 6;
const UINT: u8 = 3;
/// The first number that is free for a type of one's own, and the next.
const REQUEST: u8 = 64;
const ARGUMENTS: u8 = 65;

const METHOD: &str = "Plugin.Call";

/// Makes one request after the other.
pub(in crate::bench) struct Requests {
    /// The types of header and arguments, which come once before their first values.
    request_type: Vec<u8>,
    arguments_type: Vec<u8>,
    /// The arguments, the same each time.
    arguments: Vec<u8>,
    next: u64,
    header: Vec<u8>,
}

impl Requests {
    /// Calls of a function of the plugin, always with the same arguments.
    pub(in crate::bench) fn new(function: &str, arguments: &[u8]) -> Self {
        let mut value = vec![0xff, ARGUMENTS * 2, 1];
        put_text(&mut value, function);
        value.push(1);
        put_number(
            &mut value,
            u64::try_from(arguments.len()).unwrap_or(u64::MAX),
        );
        value.extend_from_slice(arguments);
        value.push(0);
        Self {
            request_type: request_type(),
            arguments_type: type_of(
                ARGUMENTS,
                "CallRequest",
                &[("Function", STRING), ("Args", BYTES)],
            ),
            arguments: message(&value),
            next: 0,
            header: Vec::new(),
        }
    }

    /// Appends the next request, and answers its number.
    pub(in crate::bench) fn put(&mut self, output: &mut Vec<u8>) -> u64 {
        let number = self.next;
        self.next += 1;
        if number == 0 {
            output.extend_from_slice(&self.request_type);
        }
        put_header(&mut self.header, METHOD, number);
        put_number(output, u64::try_from(self.header.len()).unwrap_or(u64::MAX));
        output.extend_from_slice(&self.header);
        if number == 0 {
            output.extend_from_slice(&self.arguments_type);
        }
        output.extend_from_slice(&self.arguments);
        number
    }
}

/// The request that has a plugin dispensed, the only one on its stream.
pub(in crate::bench) fn dispense(name: &str) -> Vec<u8> {
    let mut request = request_type();
    let mut header = Vec::new();
    put_header(&mut header, "Dispenser.Dispense", 0);
    request.extend(message(&header));
    // A value that is no struct comes after a zero.
    let mut value = vec![STRING * 2, 0];
    put_text(&mut value, name);
    request.extend(message(&value));
    request
}

/// The number of the call that the header of a reply (`ServiceMethod`, `Seq`, `Error`) belongs to. Fields
/// that are zero are left out, each says by how many it comes after the one before.
pub(in crate::bench) fn number_of(header: &[u8]) -> anyhow::Result<u64> {
    let found = || {
        let (1, rest) = number(header)? else {
            return None;
        };
        let (length, rest) = number(rest)?;
        let rest = rest.get(usize::try_from(length).ok()?..)?;
        match number(rest)? {
            (1, rest) => Some(number(rest)?.0),
            _ => Some(0),
        }
    };
    found().context("understand the header of a reply")
}

fn put_header(header: &mut Vec<u8>, method: &str, number: u64) {
    header.clear();
    header.extend([0xff, REQUEST * 2, 1]);
    put_text(header, method);
    if number > 0 {
        header.push(1);
        put_number(header, number);
    }
    header.push(0);
}

fn request_type() -> Vec<u8> {
    type_of(
        REQUEST,
        "Request",
        &[("ServiceMethod", STRING), ("Seq", UINT)],
    )
}

/// The definition of a struct whose fields are of gob's own types.
fn type_of(own: u8, name: &str, fields: &[(&str, u8)]) -> Vec<u8> {
    let mut body = vec![0xff, own * 2 - 1, 3, 1, 1];
    put_text(&mut body, name);
    body.extend([1, 0xff, own * 2, 0, 1]);
    put_number(&mut body, u64::try_from(fields.len()).unwrap_or(u64::MAX));
    for (name, kind) in fields {
        body.push(1);
        put_text(&mut body, name);
        body.extend([1, kind * 2, 0]);
    }
    body.extend([0, 0]);
    message(&body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_is_as_gob_documents_it() {
        // From the package documentation, for `type Point struct { X, Y int }`, there numbered 65.
        let expected = [
            0x1f, 0xff, 0x81, 0x03, 0x01, 0x01, 0x05, b'P', b'o', b'i', b'n', b't', 0x01, 0xff,
            0x82, 0x00, 0x01, 0x02, 0x01, 0x01, b'X', 0x01, 0x04, 0x00, 0x01, 0x01, b'Y', 0x01,
            0x04, 0x00, 0x00, 0x00,
        ];
        assert_eq!(type_of(65, "Point", &[("X", 2), ("Y", 2)]), expected);
    }
}
