//! The fuzzer's body over the kept corpus, and over small changes to it.
#![allow(clippy::unwrap_used, reason = "a test asserts by panicking")]

mod body;

use std::fs;
use std::path::Path;

use body::fuzz_decode;

fn corpus() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(paths.len() > 50, "the corpus is there");
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn the_corpus_upholds_what_must_hold_for_any_input() {
    corpus().iter().for_each(|input| fuzz_decode(input));
}

#[test]
fn inputs_with_one_byte_changed_uphold_it_too() {
    for (n, mut input) in corpus().into_iter().enumerate() {
        for at in 0..input.len() {
            let kept = input[at];
            // Another change at each place and for each input, the same in each run.
            input[at] = match (n + at) % 4 {
                0 => kept.wrapping_add(1),
                1 => kept.wrapping_sub(1),
                2 => 0xff,
                _ => kept ^ 0x80,
            };
            fuzz_decode(&input);
            input[at] = kept;
        }
    }
}

#[test]
fn joined_inputs_uphold_it_too() {
    let corpus = corpus();
    for pair in corpus.windows(2) {
        fuzz_decode(&pair.concat());
    }
}
