//! What plugins print: two streams of the session, and descriptor 2.
use pinfold_gob::gob_struct;
use pinfold_rpc::log::Level;
use serde::Serialize;
use std::path::PathBuf;
use tokio::io::AsyncReadExt;

use super::peer::{Peer, soon};

for_each_release!(
    output_comes_on_the_right_stream_complete_and_in_order,
    log_lines_become_records,
);

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct PrintArgs {
    stdout: String,
    stderr: String,
    log: String,
}

gob_struct!(PrintArgs as "PrintArgs" { "Stdout": String, "Stderr": String, "Log": String });

async fn output_comes_on_the_right_stream_complete_and_in_order(binary: PathBuf) {
    let mut peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    // More than a window and a pipe hold, so that the plugin waits for its reader.
    let text = |name: &str| {
        (0..60_000)
            .map(|line| format!("{name} {line}\n"))
            .collect::<String>()
    };
    let (stdout, stderr) = (text("out"), text("err"));
    let args = PrintArgs {
        stdout: stdout.clone(),
        stderr: stderr.clone(),
        ..PrintArgs::default()
    };
    let (mut from_stdout, mut from_stderr) = (vec![0; stdout.len()], vec![0; stderr.len()]);
    let (printed, out, err) = tokio::join!(
        client.call::<_, bool>("Plugin.Print", &args, soon()),
        peer.stdio.stdout.read_exact(&mut from_stdout),
        peer.stdio.stderr.read_exact(&mut from_stderr),
    );
    printed.unwrap();
    out.unwrap();
    err.unwrap();
    assert!(from_stdout == stdout.as_bytes() && from_stderr == stderr.as_bytes());
    peer.session.quit(soon()).await.unwrap();
    let mut rest = Vec::new();
    peer.stdio.stdout.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}

async fn log_lines_become_records(binary: PathBuf) {
    let mut peer = Peer::start(&binary).await;
    let client = peer.dispense().await;
    let args = PrintArgs {
        log: "look here".to_owned(),
        ..PrintArgs::default()
    };
    client
        .call::<_, bool>("Plugin.Print", &args, soon())
        .await
        .unwrap();
    peer.session.quit(soon()).await.unwrap();
    peer.process.exit().await;
    let records = peer.process.log().await;
    let record = records
        .iter()
        .find(|record| record.message == "look here")
        .unwrap();
    assert_eq!(record.level, Level::Warn);
    assert_eq!(record.fields["@module"], "peer");
    assert_eq!(record.fields["number"], 42);
    assert_eq!(record.fields["nested"]["yes"], true);
    assert!(
        record.fields["timestamp"]
            .as_str()
            .unwrap()
            .starts_with("20")
    );
}
