//! TLS: a certificate must be for the host and by somebody who is trusted.

use pinfold_hostapi::{HttpClient, HttpConfig, Roots};

use super::server::{Names, Server, redirect, text};
use super::{get, granted};
use crate::world::World;

fn trusting(file: &std::path::Path) -> HttpConfig {
    HttpConfig {
        roots: Roots::None,
        extra_roots: Some(file.into()),
        ..HttpConfig::default()
    }
}

#[tokio::test]
async fn a_certificate_is_checked_for_its_name_and_its_issuer() {
    let dir = tempfile::tempdir().unwrap();
    let known = Server::start_tls("127.0.0.2", "a.test", dir.path(), |_| text("safe")).await;
    let unknown = Server::start_tls("127.0.0.3", "b.test", dir.path(), |_| text("no")).await;
    let names = Names::new(&[
        "a.test=127.0.0.2",
        "wrong.test=127.0.0.2",
        "b.test=127.0.0.3",
    ]);
    let world = World::with_http(&trusting(&dir.path().join("a.test.pem")), names);
    let plugin = granted(r#""*.test:*", "127.0.0.2:*""#, r#""127.0.0.0/8""#);
    let at = |host: &str, server: &Server| format!("https://{host}:{}/", server.port());
    assert_eq!(
        get(&world, &plugin, &at("a.test", &known))
            .await
            .unwrap()
            .body,
        "safe"
    );
    for url in [
        at("wrong.test", &known),
        at("127.0.0.2", &known),
        at("b.test", &unknown),
    ] {
        let refused = get(&world, &plugin, &url).await.unwrap_err();
        assert_eq!(
            refused.code(),
            "hostapi.http.tls",
            "{url}: {}",
            refused.chain()
        );
    }
    assert!(unknown.seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_redirect_out_of_tls_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let plain = Server::start("127.0.0.2", |_| text("open")).await;
    let to = format!("http://a.test:{}/", plain.port());
    let secure = Server::start_tls("127.0.0.2", "a.test", dir.path(), move |_| {
        redirect(302, &to)
    })
    .await;
    let world = World::with_http(
        &trusting(&dir.path().join("a.test.pem")),
        Names::new(&["a.test=127.0.0.2"]),
    );
    let plugin = granted(r#""a.test:*""#, r#""127.0.0.2""#);
    let url = format!("https://a.test:{}/", secure.port());
    let refused = get(&world, &plugin, &url).await.unwrap_err();
    assert_eq!(
        refused.chain(),
        "HTTP request failed: a redirect leads from https to http"
    );
    assert!(!plain.was_reached());
}

#[tokio::test]
async fn a_file_of_roots_that_holds_none_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing here\n").unwrap();
    for file in [empty, dir.path().join("absent.pem")] {
        let error = HttpClient::new(&trusting(&file)).err().unwrap();
        assert!(
            error.to_string().contains(file.to_str().unwrap()),
            "{error}"
        );
    }
}

#[tokio::test]
async fn authorities_that_no_file_names_are_read_for_the_first_request_and_do_not_trust_strangers()
{
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_tls("127.0.0.2", "a.test", dir.path(), |_| text("no")).await;
    let plugin = granted(r#""a.test:*""#, r#""127.0.0.2""#);
    let url = format!("https://a.test:{}/", server.port());
    // The system's, or the bundled ones, or none at all.
    for roots in [Roots::System, Roots::Bundled, Roots::None] {
        let config = HttpConfig {
            roots,
            ..HttpConfig::default()
        };
        let world = World::with_http(&config, Names::new(&["a.test=127.0.0.2"]));
        for _ in 0..2 {
            let refused = get(&world, &plugin, &url).await.unwrap_err();
            assert_eq!(refused.code(), "hostapi.http.tls", "{}", refused.chain());
        }
    }
    assert!(server.seen.lock().unwrap().is_empty());
}
