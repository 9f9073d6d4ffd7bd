//! Builds Go programs of the tests by name, for machines without a compiler: `fixtures NAME...`. They are
//! in `target/fixtures` then.
#![forbid(unsafe_code)]

fn main() {
    for name in std::env::args().skip(1) {
        drop(pinfold_tests::go_fixture(&name));
    }
}
