//! wrk, the load on the gateways, and what it printed.

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// Threads of wrk, one for each processor of the machine that the figures are of.
const THREADS: usize = 2;

/// What one run of wrk found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Found {
    /// Requests that were answered.
    pub requests: u64,
    /// Those that were not answered, or otherwise than with 2xx or 3xx.
    pub failed: u64,
    /// Answered requests a second.
    pub per_second: f64,
    /// Median time of a request, microseconds.
    pub p50_us: f64,
    /// Time within which 99 of 100 were answered, microseconds.
    pub p99_us: f64,
}

/// A request that is sent again and again.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Path and query.
    pub path: String,
    /// A bearer token, where one is sent.
    pub token: Option<String>,
    /// Connections, each with one request under way; at least two.
    pub connections: usize,
}

/// Its version.
///
/// # Errors
/// Where it is not, with what to do.
pub fn version() -> anyhow::Result<String> {
    let said = Command::new("wrk")
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .context("start wrk, which loads the gateways: .ci/setup bench installs it")?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    // `wrk debian/4.1.0-3+b2 [epoll] Copyright …`
    let mut words = text.split_whitespace();
    match (words.next(), words.next()) {
        (Some("wrk"), Some(version)) => Ok(version.to_owned()),
        _ => bail!("what is called wrk here says {text:?}"),
    }
}

/// Sends the request for so long, in whole seconds.
///
/// # Errors
/// As [`run`], and where a request failed: figures of failures are none.
pub fn good(target: &Target, lasting: Duration) -> anyhow::Result<Found> {
    let found = run(target, lasting)?;
    ensure!(
        found.failed == 0,
        "{} of {} requests failed",
        found.failed,
        found.requests
    );
    Ok(found)
}

/// Sends the request for so long, in whole seconds.
///
/// # Errors
/// Where wrk cannot be started or is not understood.
pub fn run(target: &Target, lasting: Duration) -> anyhow::Result<Found> {
    let mut command = Command::new("wrk");
    command
        .arg(format!("-t{THREADS}"))
        .arg(format!("-c{}", target.connections))
        .arg(format!("-d{}s", lasting.as_secs().max(1)))
        .arg("--latency");
    if let Some(token) = &target.token {
        command.arg("-H");
        command.arg(format!("Authorization: Bearer {token}"));
    }
    let output = command
        .arg(format!("http://{}{}", target.address, target.path))
        .stdin(Stdio::null())
        .output()
        .context("start wrk")?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success(),
        "wrk failed: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    parse(&text)
}

fn parse(text: &str) -> anyhow::Result<Found> {
    let value = |start: &str| {
        let mut lines = text.lines().map(str::trim);
        lines
            .find_map(|line| line.strip_prefix(start))
            .map(str::trim)
            .with_context(|| format!("wrk printed no line of {start:?}: {text}"))
    };
    let requests = text
        .lines()
        .find_map(|line| line.split_once(" requests in "))
        .with_context(|| format!("wrk printed no number of requests: {text}"))?
        .0;
    let found = Found {
        requests: requests.trim().parse().context("a number of requests")?,
        failed: failed(text),
        per_second: value("Requests/sec:")?.parse().context("a rate")?,
        p50_us: micros(value("50%")?)?,
        p99_us: micros(value("99%")?)?,
    };
    ensure!(found.requests > 0, "wrk was answered nothing");
    Ok(found)
}

/// The sum of the numbers on the lines that wrk prints only where something went wrong:
/// `Socket errors: connect 0, read 3, write 0, timeout 0`, `Non-2xx or 3xx responses: 12`.
fn failed(text: &str) -> u64 {
    let lines = text.lines().map(str::trim).filter_map(|line| {
        let numbers = line
            .strip_prefix("Socket errors:")
            .or_else(|| line.strip_prefix("Non-2xx or 3xx responses:"));
        numbers.map(|numbers| numbers.split([' ', ',']))
    });
    lines
        .flatten()
        .filter_map(|word| word.parse::<u64>().ok())
        .sum()
}

/// `1.20ms` in microseconds.
fn micros(text: &str) -> anyhow::Result<f64> {
    let split = text.find(|c: char| c.is_ascii_alphabetic());
    let (number, unit) = text.split_at(split.unwrap_or(text.len()));
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        "m" => 60e6,
        _ => bail!("{text:?} is no time of wrk's"),
    };
    let number: f64 = number.parse().with_context(|| format!("{text:?}"))?;
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "\
Running 3s test @ http://127.0.0.1:37991/api/plugins/p/open?text=x
  2 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.93ms    2.01ms  17.07ms   75.98%
    Req/Sec     8.27k     1.33k   12.17k    71.67%
  Latency Distribution
     50%  845.00us
     75%    4.91ms
     90%    6.63ms
     99%   10.51ms
  49562 requests in 3.02s, 17.20MB read
Requests/sec:  16416.09
Transfer/sec:      5.70MB
";

    #[test]
    fn what_wrk_prints_is_read() {
        let found = Found {
            requests: 49_562,
            failed: 0,
            per_second: 16_416.09,
            p50_us: 845.0,
            p99_us: 10_510.0,
        };
        assert_eq!(parse(PRINTED).unwrap(), found);
    }

    #[test]
    fn bad_answers_and_broken_connections_are_counted() {
        let lines = "  Socket errors: connect 0, read 2, write 0, timeout 3\n  \
                     Non-2xx or 3xx responses: 12\n";
        let text = PRINTED.replace("Requests/sec:", &format!("{lines}Requests/sec:"));
        assert_eq!(parse(&text).unwrap().failed, 17);
    }
}
