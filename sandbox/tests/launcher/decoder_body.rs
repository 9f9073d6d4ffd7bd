//! What holds of any bytes that a daemon may send: the body of a fuzz target and of the tests.

use pinfold_sandbox::protocol::Request;

/// They are a request or an error. A request is no larger than its packet, and writes as many bytes.
#[expect(clippy::expect_used, reason = "a fuzzer looks for panics")]
pub(crate) fn fuzz_request(bytes: &[u8]) {
    let Ok((id, request)) = Request::from_bytes(bytes) else {
        return;
    };
    assert!(held(&request) <= bytes.len(), "{request:?}");
    let again = request.to_bytes(id).expect("what was read can be written");
    // The values of a launch may come in any order and leave in one.
    assert_eq!(again.len(), bytes.len(), "{request:?}");
    assert_eq!(Request::from_bytes(&again), Ok((id, request)));
}

/// Bytes of text that it holds.
fn held(request: &Request) -> usize {
    match request {
        Request::Launch { plugin, values, .. } => values
            .iter()
            .map(|(name, value)| name.capacity() + value.capacity())
            .fold(plugin.as_str().len(), usize::saturating_add),
        Request::Connect { name, .. } => name.capacity(),
        Request::Keep { note, .. } => note.capacity(),
        _ => 0,
    }
}
