//! What the log says of a request, and what it must not.

use std::io;
use std::sync::{Arc, Mutex};

use tracing_subscriber::fmt::MakeWriter;

use crate::neighbours::{Event, USER, World};

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// The access log's records.
    fn records(&self) -> Vec<serde_json::Value> {
        let text = self.text();
        let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
        records
            .filter(|record: &serde_json::Value| record["target"] == "pinfold::access")
            .collect()
    }
}

/// Collects what this thread logs; the test's runtime has no other.
fn collect() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(lines.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn one_line_for_each_request_with_pattern_and_without_secrets() {
    let (lines, _guard) = collect();
    let world = World::new().await;
    let path = "GET /items/private-name?secret=query";
    world
        .ask(
            path,
            &[USER, "cookie: private-cookie", "x-request-id: request-1"],
            "",
        )
        .await;
    world.ask("GET /admin", &[USER], "").await;
    world
        .ask(
            "POST /mine",
            &["authorization: Bearer pf_wrong"],
            "private-body",
        )
        .await;
    world.get("/private-nowhere").await;
    let records = lines.records();
    let fields: Vec<_> = records.iter().map(|record| &record["fields"]).collect();
    assert_eq!(fields.len(), 4);
    let first = fields[0];
    assert_eq!(first["message"], "request answered");
    assert_eq!(first["request.id"], "request-1");
    assert_eq!(first["http.request.method"], "GET");
    assert_eq!(first["http.route"], "/items/{id}");
    assert_eq!(first["http.response.status_code"], 200);
    assert_eq!(first["plugin.id"], "hello");
    assert_eq!(first["plugin.generation"], 7);
    assert_eq!(first["user.id"], "ann");
    assert!(first["duration_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(fields[1]["error.code"], "gateway.admin_required");
    assert_eq!(fields[2]["error.code"], "gateway.token_refused");
    assert_eq!(
        (&fields[3]["http.route"], &fields[3]["error.code"]),
        (
            &serde_json::Value::Null,
            &serde_json::json!("gateway.not_found")
        )
    );
    for private in ["private", "secret=query", "pf_user", "pf_wrong"] {
        assert!(
            !lines.text().contains(private),
            "{private}: {}",
            lines.text()
        );
    }
}

#[tokio::test]
async fn abandoned_request_has_its_line_and_the_operators_text_is_logged() {
    let (lines, _guard) = collect();
    let mut world = World::new().await;
    let mut client = world.client().await;
    client
        .send("GET /do/hang HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert_eq!(world.events.recv().await, Some(Event::Called));
    drop(client);
    assert_eq!(world.events.recv().await, Some(Event::Dropped));
    // The connection's task is done once the gateway has drained.
    world.get("/do/gone").await;
    world.stop.cancel();
    world.serving.await.unwrap();
    let records = lines.records();
    let abandoned = "request abandoned by its client";
    let abandoned = records
        .iter()
        .find(|record| record["fields"]["message"] == abandoned)
        .unwrap();
    assert_eq!(abandoned["fields"]["http.route"], "/do/hang");
    assert!(lines.text().contains("signal 9, secret cause"));
}
