//! What a Go host makes of a plugin's first line, and what this crate makes of it.
use std::net::ToSocketAddrs;

use pinfold_rpc::handshake::{
    Address, Expectation, FirstLine, FirstLineError, HandshakeError, HandshakeLine, Protocol,
};
use serde_json::Value;

use crate::vectors::{cases, output, text};

#[derive(Debug)]
enum Outcome {
    Line(HandshakeLine),
    NoHandshake(HandshakeError),
    NoLine(FirstLineError),
    Waiting,
}

fn expectation(case: &Value) -> Expectation {
    let versions = case["host_versions"].as_array().unwrap().iter();
    let mut expectation =
        Expectation::net_rpc(versions.filter_map(Value::as_i64).collect::<Vec<_>>());
    let allowed = case["allowed_protocols"].as_array().unwrap();
    if !allowed.is_empty() {
        expectation.protocols = allowed
            .iter()
            .map(|name| {
                if name == "grpc" {
                    Protocol::Grpc
                } else {
                    Protocol::NetRpc
                }
            })
            .collect();
    }
    expectation.certificate = case["auto_mtls"] == true;
    expectation.multiplex = case["grpc_broker_multiplex"] == true;
    expectation
}

fn read(case: &Value) -> Outcome {
    let mut first = FirstLine::new();
    let line = match first.push(&output(case, "stdout")) {
        Ok(None) if case["plugin_exits"] != true => return Outcome::Waiting,
        Ok(None) => first.finish(),
        Ok(Some(line)) => Ok(line),
        Err(error) => Err(error),
    };
    match line.map(|line| HandshakeLine::parse(&line, &expectation(case))) {
        Ok(Ok(line)) => Outcome::Line(line),
        Ok(Err(error)) => Outcome::NoHandshake(error),
        Err(error) => Outcome::NoLine(error),
    }
}

/// The name of our error for each of the Go host's texts.
fn expected_error(go_text: &str) -> &'static str {
    const NAMES: [(&str, &str); 16] = [
        ("unsupported plugin protocol", "Protocol"),
        ("error parsing core protocol version", "CoreVersionSyntax"),
        ("incompatible core API version", "CoreVersion"),
        ("Error parsing protocol version", "VersionSyntax"),
        ("incompatible API version", "Version"),
        ("unknown address type", "Network"),
        ("address ", "TcpAddress"),
        (
            "error parsing server cert: illegal base64",
            "CertificateEncoding",
        ),
        ("error parsing server cert: x509", "CertificateForm"),
        (
            "client requested gRPC broker multiplexing",
            "MultiplexUnsupported",
        ),
        ("error parsing \"", "MultiplexSyntax"),
        ("timeout while waiting", "Waiting"),
        ("Unrecognized remote plugin message: \nFailed", "NoLine"),
        (
            "Unrecognized remote plugin message: 1|1|unix",
            "Unrecognised",
        ),
        ("Unrecognized remote plugin message: hello", "Unrecognised"),
        ("Unrecognized remote plugin message: ", "Blank"),
    ];
    NAMES
        .iter()
        .find(|(prefix, _)| go_text.starts_with(prefix))
        .unwrap()
        .1
}

fn go_address(address: &Address) -> String {
    match address {
        Address::Tcp { host, port } if !host.is_empty() => {
            let mut found = (host.as_str(), *port).to_socket_addrs().unwrap();
            let first = found.next().unwrap();
            let preferred = if first.is_ipv4() {
                Some(first)
            } else {
                found.find(|a| a.is_ipv4())
            };
            preferred.unwrap_or(first).to_string()
        }
        address => address.to_string(),
    }
}

#[test]
fn every_line_is_taken_or_refused_as_by_the_go_host() {
    for case in cases("handshake-lines.json", "cases") {
        let name = text(&case, "name");
        let outcome = read(&case);
        if case["ok"] == true {
            let Outcome::Line(line) = &outcome else {
                panic!("{name}: {outcome:?}")
            };
            let network = match line.address {
                Address::Unix { .. } => "unix",
                Address::Tcp { .. } => "tcp",
            };
            assert_eq!(network, text(&case, "network"), "{name}");
            assert_eq!(go_address(&line.address), text(&case, "address"), "{name}");
            assert_eq!(line.protocol.to_string(), text(&case, "protocol"), "{name}");
            assert_eq!(Some(line.version), case["version"].as_i64(), "{name}");
        } else {
            let found = match &outcome {
                Outcome::NoHandshake(error) => format!("{error:?}"),
                // The Go host has one text for both; ours say which it was.
                Outcome::NoLine(FirstLineError::TooLong { .. }) => "NoLine".to_owned(),
                outcome @ Outcome::Waiting => format!("{outcome:?}"),
                Outcome::NoLine(error) => format!("{error:?}"),
                Outcome::Line(_) => panic!("{name}: {outcome:?}"),
            };
            let expected = expected_error(text(&case, "error"));
            let found = found.split([' ', '{']).next().unwrap();
            assert_eq!(found, expected, "{name}: {outcome:?}");
        }
    }
}

#[test]
fn certificate_nobody_asked_for_is_an_error_of_its_own() {
    let case = cases("handshake-lines.json", "cases");
    let with_certificate = case
        .iter()
        .find(|case| text(case, "name") == "cert_ok")
        .unwrap();
    let Outcome::Line(line) = read(with_certificate) else {
        panic!("cert_ok is refused")
    };
    assert!(line.certificate.is_some_and(|der| der.len() > 500));
    let mut unasked = with_certificate.clone();
    unasked["auto_mtls"] = Value::Bool(false);
    let outcome = read(&unasked);
    assert!(
        matches!(
            outcome,
            Outcome::NoHandshake(HandshakeError::UnsolicitedCertificate)
        ),
        "{outcome:?}"
    );
}

#[test]
fn hostile_lines_give_errors() {
    let expectation = Expectation::net_rpc([1]);
    let lines: [&[u8]; 5] = [
        b"\xff\xfe|\x00|||",
        b"1|1|tcp|[::1|netrpc",
        b"1|1|tcp|:+1|netrpc",
        b"99999999999999999999|1|unix|/s",
        b"1|1|tcp|::1:5|netrpc",
    ];
    for line in lines {
        assert!(
            HandshakeLine::parse(line, &expectation).is_err(),
            "{line:?}"
        );
    }
}
