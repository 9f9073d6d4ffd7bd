//! What the tests run inside a jail, and outside for comparison: a static program that does what
//! its arguments say and prints what came of it, one line each.
//!
//! `rustc` alone builds it, for musl.

use std::env;
use std::fs;
use std::io::{self, Read, Write};

fn main() {
    for argument in env::args().skip(1) {
        let (act, rest) = argument.split_once(':').unwrap_or((&argument, ""));
        match act {
            "say" => println!("{rest}"),
            "env" => env::vars().for_each(|(name, value)| println!("{name}={value}")),
            "cat" => match fs::read_to_string(rest) {
                Ok(text) => print!("{text}"),
                Err(error) => tell(argument.as_str(), Err(error)),
            },
            "wait" => {
                io::stdout().flush().unwrap();
                // Standard input is at its end: sleep until a signal comes.
                loop {
                    std::thread::park();
                }
            }
            "exit" => std::process::exit(rest.parse().unwrap()),
            "abort" => std::process::abort(),
            "drain" => drop(io::stdin().read_to_end(&mut Vec::new())),
            _ => tell(argument.as_str(), Err(io::ErrorKind::Unsupported.into())),
        }
        io::stdout().flush().unwrap();
    }
}

fn tell(what: &str, outcome: io::Result<()>) {
    match outcome {
        Ok(()) => println!("{what} ok"),
        Err(error) => println!("{what} {}", error.raw_os_error().unwrap_or(-1)),
    }
}
