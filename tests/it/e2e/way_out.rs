//! Programs that speak HTTP by themselves get out of their jail through its proxy, to where the policy
//! lets them and nowhere else.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use pinfold_tests::{deadline, go_fixture, repository, require, stretched, tell, wait_for};
use serde_json::{Value, json};

use super::daemon::Daemon;
use super::setup::Setup;

const ASKS: &str = "resources:
  permissions:
    - type: http
";

/// The one that a policy's runtime names: of the system, so root's.
const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// The proxy of a goatflow plugin's jail.
const PROXY: &str = "127.0.0.1:3128";

/// An address of this machine that is not loopback: clients leave loopback out, whatever proxy they
/// have.
fn own_address() -> Option<IpAddr> {
    // Nothing is sent: this only asks for the way there.
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("198.51.100.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

/// Go's own server on that address.
struct Outside {
    child: Child,
    ip: IpAddr,
    plain: String,
    secure: String,
    root: PathBuf,
}

impl Drop for Outside {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}

impl Outside {
    fn start(directory: &Path) -> Option<Self> {
        let Some(ip) = own_address() else {
            tell("skipped: a way out: this machine has no address but loopback\n");
            return None;
        };
        let root = directory.join("root.pem");
        let mut child = Command::new(go_fixture("outside"))
            .arg(ip.to_string())
            .arg(&root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut line = || lines.next().unwrap().unwrap();
        let (plain, secure) = (line(), line());
        Some(Self {
            child,
            ip,
            plain,
            secure,
            root,
        })
    }

    fn http(&self) -> String {
        format!("http://{}/a?b", self.plain)
    }

    fn https(&self) -> String {
        format!("https://{}/a?b", self.secure)
    }

    /// Both of its ports, with `more`.
    fn grant(&self, more: &str) -> String {
        format!(
            "[permissions]\nhttp = [{{ hosts = ['{}', '{}'], addresses = ['{}']{more} }}]\n\
             [env]\nSSL_CERT_FILE = '/plugin/root.pem'\n",
            self.plain, self.secure, self.ip
        )
    }

    /// A plugin that trusts its certificate.
    fn client(&self, setup: Setup, name: &str, policy: &str) -> Setup {
        let setup = setup
            .plugin_asking(name, "goatflow-g4", ASKS)
            .policy(name, policy);
        fs::copy(&self.root, setup.path(&format!("sources/{name}/root.pem"))).unwrap();
        setup
    }
}

fn fetch(daemon: &Daemon, plugin: &str, method: &str, url: &str) -> Value {
    let asked = json!({"method": method, "address": url, "text": "body"});
    daemon.result(plugin, "fetch", &asked)
}

fn body(answer: &Value) -> Value {
    let text = answer["body"].as_str();
    let text = text.unwrap_or_else(|| panic!("{answer}"));
    serde_json::from_str(text).unwrap_or_else(|_| panic!("{answer}"))
}

/// What both ways of running are to do.
fn go_goes_out(setup: Setup) {
    let place = pinfold_tests::scratch();
    let Some(outside) = Outside::start(place.path()) else {
        return;
    };
    let setup = outside.client(setup, "may", &outside.grant(""));
    let setup = outside.client(setup, "gets", &outside.grant(", methods = ['GET']"));
    let tunnels = outside.grant(", methods = ['GET'], tunnel = true");
    let setup = outside.client(setup, "tunnels", &tunnels);
    let setup = outside.client(setup, "path", &outside.grant(", paths = ['/a/**', '/x']"));
    let elsewhere = "[permissions]\nhttp = [{ hosts = ['api.test'] }]\n";
    let setup = outside.client(setup, "other", elsewhere);
    let setup = outside.client(setup, "none", "");
    let daemon = setup.start();

    // Plain, and through a tunnel with TLS of its own.
    for url in [outside.http(), outside.https()] {
        let answer = fetch(&daemon, "may", "POST", &url);
        assert_eq!(answer["status"], 200, "{answer}");
        let asked = body(&answer);
        assert_eq!(
            (&asked["method"], &asked["path"], &asked["body"]),
            (&json!("POST"), &json!("/a?b"), &json!("body"))
        );
        assert!(asked["headers"]["Via"].is_null(), "{asked}");
        assert!(asked["headers"]["X-Forwarded-For"].is_null(), "{asked}");
    }
    // A grant of methods: those alone, and a tunnel only where it says so.
    assert_eq!(
        fetch(&daemon, "gets", "GET", &outside.http())["status"],
        200
    );
    let refused = fetch(&daemon, "gets", "POST", &outside.http());
    assert_eq!(refused["status"], 403, "{refused}");
    let missing = format!("http:POST:{}", outside.plain);
    assert_eq!(body(&refused)["permission"], missing);
    let refused = fetch(&daemon, "gets", "GET", &outside.https());
    let said = refused["error"].as_str().unwrap();
    let missing = format!("http:CONNECT:{} is not granted", outside.secure);
    assert!(said.contains(&missing), "{said}");
    let tunnelled = fetch(&daemon, "tunnels", "POST", &outside.https());
    assert_eq!(tunnelled["status"], 200, "{tunnelled}");

    // A grant of paths: those alone, however they are written, and no tunnel either.
    let at = |path: &str| format!("http://{}{path}", outside.plain);
    let answer = fetch(&daemon, "path", "POST", &at("/a/b?c"));
    assert_eq!(answer["status"], 200, "{answer}");
    assert_eq!(body(&answer)["path"], "/a/b?c");
    for path in ["/b", "/a", "/a/..%2fb", "/a//b", "/a/..;/b"] {
        let refused = fetch(&daemon, "path", "GET", &at(path));
        assert_eq!(refused["status"], 403, "{path}: {refused}");
        let missing = format!("http:GET:{}{path}", outside.plain);
        assert_eq!(body(&refused)["permission"], missing);
    }
    let refused = fetch(&daemon, "path", "GET", &outside.https());
    let said = refused["error"].as_str().unwrap();
    let missing = format!("http:CONNECT:{} is not granted", outside.secure);
    assert!(said.contains(&missing), "{said}");

    // Nowhere else: not where another plugin may go, not this machine, not the metadata.
    for url in [
        outside.http(),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "http://0x7f.1:22/".to_owned(),
        "http://elsewhere.test/".to_owned(),
    ] {
        let refused = fetch(&daemon, "other", "GET", &url);
        assert_eq!(refused["status"], 403, "{url}: {refused}");
        let problem = body(&refused);
        assert_eq!(problem["code"], "hostapi.refused", "{problem}");
    }
    let refused = fetch(&daemon, "other", "GET", &outside.https());
    assert!(refused["error"].as_str().unwrap().contains("not granted"));
    // Without the permission there is no proxy, and nothing points at one.
    let refused = fetch(&daemon, "none", "GET", &outside.http());
    assert!(
        refused["error"].as_str().unwrap().contains("unreachable"),
        "{refused}"
    );
    let reach = json!({"network": "tcp", "address": PROXY});
    assert_eq!(daemon.result("none", "connect", &reach), "ECONNREFUSED");
    // What a plugin serves to itself it reaches by itself.
    let own = fetch(&daemon, "may", "GET", "http://127.0.0.1:9/");
    assert!(own["error"].as_str().unwrap().contains("refused"), "{own}");

    // Each is in the audit trail.
    let state = daemon.base().join("state");
    let _setup = daemon.stop();
    let trail: Vec<u8> = ["pinfold.db", "pinfold.db-wal"]
        .iter()
        .flat_map(|name| fs::read(state.join(name)).unwrap_or_default())
        .collect();
    let trail = String::from_utf8_lossy(&trail);
    for text in [
        format!("CONNECT {}", outside.secure),
        format!("http:CONNECT:{}", outside.secure),
        format!("POST http://{}", outside.plain),
        format!("http:POST:{}", outside.plain),
        format!("http:GET:{}/a/..%2fb", outside.plain),
        "http:GET:169.254.169.254:80".to_owned(),
    ] {
        assert!(trail.contains(&text), "{text}");
    }
}

#[test]
fn an_ordinary_go_program_goes_out_where_it_may_and_nowhere_else() {
    if super::can_run() {
        go_goes_out(Setup::new());
    }
}

#[test]
fn it_does_under_an_ordinary_user_too() {
    if require(&["root", "userns", "go"]) {
        go_goes_out(Setup::of_user(54_322));
    }
}

/// The head of a policy under which the system's CPython runs a plugin's entry in its jail, with these
/// arguments.
fn python_policy(entry: &str, args: &[&str]) -> String {
    let real = |path: &str| Some(fs::canonicalize(path).ok()?.to_str()?.to_owned());
    let loader = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    let loader = loader.into_iter().find_map(real).unwrap();
    let (libraries, _) = loader.rsplit_once('/').unwrap();
    let interpreter = real(SYSTEM_PYTHON).unwrap();
    let library = Command::new(&interpreter)
        .args(["-I", "-c", "import os; print(os.path.dirname(os.__file__))"])
        .output()
        .unwrap();
    let library = String::from_utf8(library.stdout).unwrap();
    let library = library.trim();
    format!(
        "schema = 1\ndialect = 'goatflow'\nentry = '{entry}'\nargs = {args:?}\nprofile = 'python'\n\
         [trust]\nunsigned = true\n\
         [runtime]\ninterpreter = '{interpreter}'\nargs = ['-I', '-B']\nloader = '{loader}'\n\
         paths = ['{libraries}', '{library}']\n\
         [timeouts]\nhandshake = '{}'\n",
        deadline(10)
    )
}

/// Python's own client in a jail: all that there is of the machine is what the policy of a plugin in
/// Python has. It speaks no contract, so its start fails, when it has fetched what it was told to.
#[test]
fn a_python_program_in_its_jail_goes_out_where_it_may_and_nowhere_else() {
    if !require(&["root", "go"]) {
        return;
    }
    if !Path::new(SYSTEM_PYTHON).exists() {
        tell("skipped: a Python program in its jail: there is no /usr/bin/python3\n");
        return;
    }
    let place = pinfold_tests::scratch();
    let Some(outside) = Outside::start(place.path()) else {
        return;
    };
    let (http, https) = (outside.http(), outside.https());
    let everywhere = [
        "--log",
        &http,
        &https,
        "http://169.254.169.254/",
        "https://elsewhere.test/",
        "http://127.0.0.1:9/",
    ];
    let gets = outside.grant(", methods = ['GET']");
    let mut setup = Setup::new().without_restarts();
    for (name, grant) in [("may", &*outside.grant("")), ("gets", &*gets), ("none", "")] {
        let args = if name == "none" {
            &everywhere[..2]
        } else {
            &everywhere
        };
        let policy = python_policy(name, args) + grant;
        setup = outside
            .client(setup, name, "")
            .file(&format!("etc/policy.d/{name}.toml"), &policy);
        let client = repository().join("tests/fixtures/python/client.py");
        fs::copy(client, setup.path(&format!("sources/{name}/{name}"))).unwrap();
    }
    let daemon = setup.start();
    let answers = |plugin: &str, count: usize| -> Vec<Value> {
        wait_for(&format!("{count} answers to {plugin}"), || {
            let logs = daemon.logs(plugin);
            let messages = logs.iter().filter_map(|record| record["message"].as_str());
            let answers = messages.filter_map(|line| line.strip_prefix("answer: "));
            let answers: Vec<Value> = answers
                .map(|answer| serde_json::from_str(answer).unwrap())
                .collect();
            let is_over = daemon.plugin(plugin)["state"] == "failed";
            assert!(answers.len() == count || !is_over, "{plugin}: {logs:?}");
            (answers.len() == count).then_some(answers)
        })
    };
    let said = |answer: &Value| answer["error"].as_str().unwrap_or_default().to_owned();
    let may = answers("may", 5);
    for answer in &may[..2] {
        assert_eq!(answer["status"], 200, "{answer}");
        assert_eq!(body(answer)["path"], "/a?b");
    }
    let gets = answers("gets", 5);
    assert_eq!(gets[0]["status"], 200, "{}", gets[0]);
    let missing = format!("http:CONNECT:{} is not granted", outside.secure);
    assert!(said(&gets[1]).contains(&missing), "{}", gets[1]);
    for answers in [&may, &gets] {
        assert_eq!(answers[2]["status"], 403, "{}", answers[2]);
        let missing = "http:CONNECT:elsewhere.test:443 is not granted";
        assert!(said(&answers[3]).contains(missing), "{}", answers[3]);
        // Its own loopback is not the proxy's.
        assert!(said(&answers[4]).contains("refused"), "{}", answers[4]);
    }
    // Without the permission there is no way at all.
    let none = &answers("none", 1)[0];
    assert!(said(none).contains("unreachable"), "{none}");
}

/// Python's own client against the same proxy, as another program meets it that is no plugin: outside, in
/// the network of one in Go, with its variables.
#[test]
fn an_ordinary_python_program_in_that_network_goes_out_where_it_may_and_nowhere_else() {
    if !require(&["root", "go", "python"]) {
        return;
    }
    let place = pinfold_tests::scratch();
    let Some(outside) = Outside::start(place.path()) else {
        return;
    };
    let setup = outside.client(Setup::new(), "may", &outside.grant(""));
    let daemon = outside
        .client(setup, "gets", &outside.grant(", methods = ['GET']"))
        .start();
    let run = |plugin: &str, urls: &[&str]| -> Vec<Value> {
        let pid = daemon.plugin_pid(plugin);
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap();
        let environment = String::from_utf8(environment).unwrap();
        let proxies = environment
            .split_terminator('\0')
            .filter_map(|line| line.split_once('='))
            .filter(|(name, _)| name.to_lowercase().ends_with("_proxy"));
        let ran = Command::new("nsenter")
            .arg(format!("--net=/proc/{pid}/ns/net"))
            .arg("python3")
            .arg(repository().join("tests/fixtures/python/client.py"))
            .args(urls)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", std::env::var_os("HOME").unwrap_or_default())
            .envs(proxies)
            .env("SSL_CERT_FILE", &outside.root)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{errors}");
        let lines = String::from_utf8(ran.stdout).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let (http, https) = (outside.http(), outside.https());
    for answer in run("may", &[&http, &https]) {
        assert_eq!(answer["status"], 200, "{answer}");
        assert_eq!(body(&answer)["path"], "/a?b");
    }
    let urls = [
        &*http,
        &https,
        "http://169.254.169.254/",
        "https://elsewhere.test/",
        "http://127.0.0.1:9/",
    ];
    let answers = run("gets", &urls);
    assert_eq!(answers[0]["status"], 200, "{}", answers[0]);
    let said = |at: usize| answers[at]["error"].as_str().unwrap_or_default();
    let missing = format!("http:CONNECT:{} is not granted", outside.secure);
    assert!(said(1).contains(&missing), "{}", answers[1]);
    assert_eq!(answers[2]["status"], 403, "{}", answers[2]);
    assert!(
        said(3).contains("http:CONNECT:elsewhere.test:443 is not granted"),
        "{}",
        answers[3]
    );
    // Its own loopback is not the proxy's.
    assert!(said(4).contains("refused"), "{}", answers[4]);
}

#[test]
fn a_thousand_tunnels_of_one_plugin_cost_another_none() {
    if !super::can_run() {
        return;
    }
    let place = pinfold_tests::scratch();
    let Some(outside) = Outside::start(place.path()) else {
        return;
    };
    let many = "[rates]\nhttp-requests-per-minute = 100000\n";
    let grant = format!("{}{many}", outside.grant(""));
    let greedy = format!(
        "{grant}[limits]\nfiles = 2048\n[timeouts]\ncall = '{}'\n",
        deadline(30)
    );
    let setup = outside.client(Setup::new(), "greedy", &greedy);
    let daemon = outside.client(setup, "modest", &grant).start();
    let to = &outside.secure;
    let flood = json!({
        "address": PROXY, "n": 1_000, "ms": stretched(4).as_millis(),
        "text": format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n\r\n"),
    });
    std::thread::scope(|scope| {
        let flooding = scope.spawn(|| daemon.result("greedy", "exchanges", &flood));
        for _ in 0..20 {
            for url in [outside.http(), outside.https()] {
                let answer = fetch(&daemon, "modest", "GET", &url);
                assert_eq!(answer["status"], 200, "{answer}");
            }
        }
        let lines = flooding.join().unwrap();
        let count = |line: &str| lines[line].as_u64().unwrap_or(0);
        assert!((1..=16).contains(&count("HTTP/1.1 200")), "{lines}");
        assert!(count("HTTP/1.1 429") > 0, "{lines}");
    });
    // The greedy one has them back once it has let go, which the proxy notices a moment later.
    wait_for("a tunnel for the greedy one", || {
        let again = fetch(&daemon, "greedy", "GET", &outside.https());
        (again["status"] == 200).then_some(())
    });
}

#[test]
fn what_is_no_http_or_two_messages_in_one_ends_at_the_proxy() {
    if !super::can_run() {
        return;
    }
    let place = pinfold_tests::scratch();
    let Some(outside) = Outside::start(place.path()) else {
        return;
    };
    let daemon = outside
        .client(Setup::new(), "may", &outside.grant(""))
        .start();
    let say = |text: &str| -> String {
        let asked = json!({"address": PROXY, "text": text, "ms": 10_000});
        let answer = daemon.result("may", "exchange", &asked);
        answer["answer"].as_str().unwrap().to_owned()
    };
    let (http, host) = (outside.http(), &outside.plain);
    let smuggled = "GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    for head in [
        "\x16\x03\x01\x02\0\x01\0\x01\r\n\r\n".to_owned(),
        "SSH-2.0-x\r\n\r\n".to_owned(),
        format!("GET /a HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
        format!("POST {http} HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{smuggled}"),
        format!("POST {http} HTTP/1.1\r\nX: a\r\n b\r\n\r\n{smuggled}"),
        format!("CONNECT 169.254.169.254:80 HTTP/1.1\r\nConnection: close\r\n\r\n{smuggled}"),
        "CONNECT [::ffff:169.254.169.254]:80 HTTP/1.1\r\nConnection: close\r\n\r\n".to_owned(),
    ] {
        let answer = say(&head);
        let status = answer.get(9..12).unwrap_or_default();
        assert!(["400", "403"].contains(&status), "{head:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{head:?}: {answer}");
    }
    // The URL counts, and not what the Host line says.
    let turned = format!(
        "GET http://169.254.169.254/ HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    );
    assert!(say(&turned).starts_with("HTTP/1.1 403 "));
    let straight =
        format!("GET {http} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n");
    let answer = say(&straight);
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(&format!("\"host\":\"{host}\""))
    );
}
