//! The launcher of an ordinary user.

#[test]
fn placeholder() {}
