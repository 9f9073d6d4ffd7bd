use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::Value;

use super::*;
use crate::{Control, Limits, PolicyFile, Rates, Timeouts, Wanted};

fn schema() -> Value {
    serde_json::from_str(POLICY_SCHEMA).unwrap()
}

fn validator() -> Validator {
    jsonschema::meta::validate(&schema()).unwrap();
    jsonschema::validator_for(&schema()).unwrap()
}

/// Whether the schema takes a document. What is no TOML is no document.
fn takes(validator: &Validator, text: &str) -> bool {
    let table = toml::from_str::<toml::Table>(text).unwrap();
    validator.is_valid(&serde_json::to_value(table).unwrap())
}

const SAMPLE: &str = r#"schema = 1
dialect = "goatflow"
entry = "bin/hello"
args = ["-v"]
profile = "default"
exec = "entry"
syscall-groups = ["@optional-watch"]
loopback = true
proc = "full"
[runtime]
interpreter = "/usr/bin/python3.11"
args = ["-I"]
loader = "/usr/lib/ld.so"
paths = ["/usr/lib/python3.11"]
[[mounts]]
source = "/srv/geo"
target = "/data/geo"
[[mounts]]
source = "/srv/inbox"
target = "/data/inbox"
rw = true
[trust]
signed-by = ["release"]
[permissions]
db = [{ database = "main", tables = ["items"], access = "read", ddl = true }]
cache = "readwrite"
http = [{ hosts = ["api.example.com:8443"], methods = ["GET"], paths = ["/v1/*"], addresses = ["10.0.0.0/8"] }]
email = ["@example.com"]
config = ["app.*"]
plugin-call = ["stats/summary"]
[limits]
memory = "256MiB"
cpu = "100%"
processes = 64
tmp = "16MiB"
files = 256
file-size = "64MiB"
state = "1GiB"
state-files = 1000
cpu-affinity = [0, 3]
io = { read = "20MiB", write = "10MiB", read-ops = 500, write-ops = 200 }
[timeouts]
handshake = "10s"
init = "1m30s"
call = "500ms"
shutdown = ".5s"
quit = "0"
[rates]
calls-per-second = 100
host-calls-per-second = 0
queries-per-minute = 600
http-requests-per-minute = 60
[controls]
landlock = "required"
memory = { wanted = "preferred", i-accept-the-risk = "no delegation" }
[env]
TZ = "UTC"
"#;

/// A change of the sample: what is replaced, and by what.
type Edit = (&'static str, &'static str);

/// Taken by both.
const GOOD: &[Edit] = &[
    ("schema = 1", "schema = 1"),
    ("args = [\"-v\"]\n", ""),
    ("profile = \"default\"\n", ""),
    ("syscall-groups = [\"@optional-watch\"]\n", ""),
    ("[\"@optional-watch\"]", "[]"),
    ("[\"@optional-watch\"]", "[\"@a\", \"@optional-ipc\"]"),
    ("paths = [\"/v1/*\"], ", ""),
    ("[\"/v1/*\"]", "[]"),
    ("\"/v1/*\"", "\"/\", \"/**\", \"/*/\""),
    ("\"/v1/*\"", "\"/v1/a%20b.json/*/x/**\""),
    ("\"/v1/*\"", "\"/.well-known/..x/a:b@c,d=e|f[g]^~'\""),
    ("loopback = true", "loopback = false"),
    ("proc = \"full\"", "proc = \"pid\""),
    ("proc = \"full\"\n", ""),
    ("exec = \"entry\"", "exec = \"stage\""),
    ("exec = \"entry\"\n", ""),
    (
        "interpreter = \"/usr/bin/python3.11\"\nargs = [\"-I\"]\n",
        "",
    ),
    ("loader = \"/usr/lib/ld.so\"\n", ""),
    ("paths = [\"/usr/lib/python3.11\"]\n", ""),
    ("\"/usr/lib/python3.11\"", "\"/etcetera\", \"/opt/..x\""),
    ("\"/srv/geo\"", "\"/etcetera/..x\""),
    ("\"/data/geo\"", "\"/pluginx\""),
    ("rw = true\n", ""),
    ("rw = true", "rw = false"),
    ("signed-by = [\"release\"]", "unsigned = true"),
    (
        "signed-by = [\"release\"]",
        "signed-by = [\"release\"]\npackage = true\nleast-version = \"1.2.0-rc.1\"",
    ),
    (
        "signed-by = [\"release\"]",
        "unsigned = true\npackage = false",
    ),
    (
        "signed-by = [\"release\"]",
        "signed-by = [\"release\", \"b-2_c\"]\nunsigned = false",
    ),
    (
        "signed-by = [\"release\"]",
        "digest = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"",
    ),
    ("database = \"main\", ", ""),
    (", ddl = true", ""),
    (
        "\"api.example.com:8443\"",
        "\"*\", \"*:*\", \"[::1]:80\", \"10.0.0.5\", \"*.a.test:443\"",
    ),
    ("methods = [\"GET\"], ", ""),
    ("\"10.0.0.0/8\"", "\"fd00::/8\", \"127.0.0.1\", \"::1\""),
    ("\"256MiB\"", "\"268435456\""),
    ("\"256MiB\"", "\"1 GiB\""),
    ("\"100%\"", "\"100000%\""),
    ("\"100%\"", "\"050%\""),
    ("read-ops = 500, ", ""),
    (
        "{ read = \"20MiB\", write = \"10MiB\", read-ops = 500, write-ops = 200 }",
        "{}",
    ),
    ("cpu-affinity = [0, 3]\n", ""),
    ("landlock = \"required\"", "io = \"required\""),
    ("\"1m30s\"", "\"1.5h\""),
    ("\"1m30s\"", "\"250µs\""),
    (
        "landlock = \"required\"",
        "landlock = \"off\"\nseccomp = \"required\"",
    ),
    (
        "landlock = \"required\"",
        "landlock = { wanted = \"off\", i-accept-the-risk = \"\" }",
    ),
    ("wanted = \"preferred\"", "wanted = \"off\""),
    ("[env]\nTZ = \"UTC\"\n", ""),
    ("entry = \"bin/hello\"", "entry = \"a..b/.hidden\""),
    ("entry = \"bin/hello\"", "entry = \"b\\u00fcro/h\""),
    ("\"items\"", "\"b\\u00fcro\", \"\\u8868_*\", \"\""),
    ("\"app.*\"", "\"app.\\u00a0x\\u2027\\u202f\""),
];

/// Refused by both.
const BAD: &[Edit] = &[
    ("schema = 1", "schema = 2"),
    ("schema = 1\n", ""),
    ("dialect = \"goatflow\"\n", ""),
    ("dialect = \"goatflow\"", "dialect = 1"),
    ("entry = \"bin/hello\"", "entry = \"\""),
    ("entry = \"bin/hello\"", "entry = \"/bin/sh\""),
    ("entry = \"bin/hello\"", "entry = \"../x\""),
    ("entry = \"bin/hello\"", "entry = \"a/./b\""),
    ("entry = \"bin/hello\"", "entry = \"a//b\""),
    ("entry = \"bin/hello\"", "entry = \"hello.sig\""),
    ("entry = \"bin/hello\"", "entri = \"bin/hello\""),
    ("entry = \"bin/hello\"", "entry = \"he\\nllo\""),
    ("entry = \"bin/hello\"", "entry = \"bin/a\\u202eb\""),
    ("args = [\"-v\"]", "args = \"-v\""),
    ("[\"@optional-watch\"]", "[\"optional-watch\"]"),
    ("[\"@optional-watch\"]", "[\"@\"]"),
    ("[\"@optional-watch\"]", "[\"@A\"]"),
    ("[\"@optional-watch\"]", "[\"@a\", \"@b\", \"@a\"]"),
    ("loopback = true", "loopback = \"no\""),
    ("exec = \"entry\"", "exec = \"all\""),
    ("proc = \"full\"", "proc = \"none\""),
    ("proc = \"full\"", "proc = true"),
    ("loopback = true", "loop-back = true"),
    ("interpreter = \"/usr/bin/python3.11\"\n", ""),
    ("\"/usr/bin/python3.11\"", "\"python3\""),
    ("\"/usr/bin/python3.11\"", "\"/usr/../bin/x\""),
    ("\"/usr/lib/python3.11\"", "\"/\""),
    ("\"/usr/lib/python3.11\"", "\"/etc\""),
    ("\"/usr/lib/python3.11\"", "\"/proc/1/root\""),
    ("\"/usr/lib/python3.11\"", "\"/tmp/x\""),
    ("\"/usr/lib/python3.11\"", "\"/opt/\""),
    ("loader = ", "lauder = "),
    ("\"/srv/geo\"", "\"/\""),
    ("\"/srv/geo\"", "\"srv/geo\""),
    ("\"/srv/geo\"", "\"/srv/../etc\""),
    ("\"/srv/geo\"", "\"/etc/ssl\""),
    ("\"/srv/geo\"", "\"/proc/1/root\""),
    ("\"/data/geo\"", "\"/\""),
    ("\"/data/geo\"", "\"/plugin/x\""),
    ("\"/data/geo\"", "\"/tmp\""),
    ("\"/data/geo\"", "\"/a/b/c/d/e/f/g/h/i\""),
    ("source = \"/srv/geo\"\n", ""),
    ("target = \"/data/geo\"\n", ""),
    ("rw = true", "rw = \"yes\""),
    ("rw = true", "read-write = true"),
    ("signed-by = [\"release\"]", ""),
    ("signed-by = [\"release\"]", "signed-by = []"),
    ("signed-by = [\"release\"]", "unsigned = false"),
    (
        "signed-by = [\"release\"]",
        "signed-by = [\"release\"]\nunsigned = true",
    ),
    ("signed-by = [\"release\"]", "signed-by = [\"../release\"]"),
    ("signed-by = [\"release\"]", "digest = \"sha256:0\""),
    (
        "signed-by = [\"release\"]",
        "unsigned = true\npackage = true",
    ),
    (
        "signed-by = [\"release\"]",
        "unsigned = true\nleast-version = \"1\"",
    ),
    (
        "signed-by = [\"release\"]",
        "signed-by = [\"release\"]\nleast-version = \"v1\"",
    ),
    ("signed-by", "signed_by"),
    ("tables = [\"items\"], ", ""),
    ("access = \"read\"", "access = \"reed\""),
    ("\"main\"", "\"a\\u0007\""),
    ("\"items\"", "\"a\\nb\""),
    ("\"items\"", "\"a\\u200fb\""),
    ("\"@example.com\"", "\"@a\\u2066b\""),
    ("\"app.*\"", "\"a\\u2028b\""),
    ("\"app.*\"", "\"a\\u007f\""),
    ("\"app.*\"", "\"a\\u009f\""),
    ("\"app.*\"", "\"a\\u061cb\""),
    ("\"app.*\"", "\"a\\ufeffb\""),
    ("\"stats/summary\"", "\"a\\u001bb\""),
    ("\"api.example.com:8443\"", "\"a\\u001b.test\""),
    ("cache = \"readwrite\"", "cache = true"),
    ("cache = \"readwrite\"", "cash = \"read\""),
    ("\"api.example.com:8443\"", "\"https://a.test\""),
    ("\"api.example.com:8443\"", "\"a.test/x\""),
    ("\"api.example.com:8443\"", "\"u@a.test\""),
    ("\"api.example.com:8443\"", "\"\""),
    ("\"api.example.com:8443\"", "\":80\""),
    ("\"api.example.com:8443\"", "\"a.test:0\""),
    ("\"api.example.com:8443\"", "\"::1\""),
    ("\"api.example.com:8443\"", "\"bücher.test\""),
    ("hosts = [", "host = ["),
    ("\"GET\"", "\"get\""),
    ("\"GET\"", "\"\""),
    ("\"GET\"", "\"GET\", \"CONNECT\""),
    ("\"/v1/*\"", "\"v1\""),
    ("\"/v1/*\"", "\"\""),
    ("\"/v1/*\"", "\"/v1?x\""),
    ("\"/v1/*\"", "\"/v1/*x\""),
    ("\"/v1/*\"", "\"/**/v1\""),
    ("\"/v1/*\"", "\"/v1/***\""),
    ("\"/v1/*\"", "\"/v1//a\""),
    ("\"/v1/*\"", "\"/v1/..\""),
    ("\"/v1/*\"", "\"/v1/./a\""),
    ("\"/v1/*\"", "\"/v1/%2e\""),
    ("\"/v1/*\"", "\"/v1%2Fa\""),
    ("\"/v1/*\"", "\"/v1%5ca\""),
    ("\"/v1/*\"", "\"/v1%00\""),
    ("\"/v1/*\"", "\"/v1%7F\""),
    ("\"/v1/*\"", "\"/v1%25\""),
    ("\"/v1/*\"", "\"/v1%3B\""),
    ("\"/v1/*\"", "\"/v1%3f\""),
    ("\"/v1/*\"", "\"/v1%23\""),
    ("\"/v1/*\"", "\"/v1%2\""),
    ("\"/v1/*\"", "\"/v1;a\""),
    ("\"/v1/*\"", "\"/{id}\""),
    ("\"/v1/*\"", "\"/a b\""),
    ("\"/v1/*\"", "\"/bücher\""),
    ("\"/v1/*\"", "'/v1\\a'"),
    ("[\"/v1/*\"]", "\"/v1\""),
    ("paths = [\"/v1", "path = [\"/v1"),
    ("\"10.0.0.0/8\"", "\"ten\""),
    ("\"256MiB\"", "\"256MB\""),
    ("\"256MiB\"", "256"),
    ("\"100%\"", "\"0%\""),
    ("\"100%\"", "\"100\""),
    ("\"100%\"", "\"100001%\""),
    ("processes = 64", "processes = 3"),
    ("processes = 64", "processes = 32769"),
    ("processes = 64", "processes = \"64\""),
    ("files = 256", "files = 15"),
    ("state-files = 1000", "state-files = 15"),
    ("[0, 3]", "[0, 1024]"),
    ("[0, 3]", "[-1]"),
    ("[0, 3]", "[0, 0]"),
    ("[0, 3]", "0"),
    ("[0, 3]", "[]"),
    ("state = \"1GiB\"", "state = 1"),
    ("read-ops = 500", "read-ops = 9"),
    ("read-ops = 500", "read-opts = 500"),
    ("read = \"20MiB\"", "read = 20"),
    ("\"1m30s\"", "\"90\""),
    ("\"1m30s\"", "\"-1s\""),
    ("\"1m30s\"", "\"\""),
    ("calls-per-second = 100", "calls-per-second = -1"),
    ("landlock", "landlok"),
    ("landlock = \"required\"", "landlock = \"maybe\""),
    ("landlock = \"required\"", "seccomp = \"off\""),
    (
        "landlock = \"required\"",
        "seccomp = { wanted = \"off\", i-accept-the-risk = \"why\" }",
    ),
    ("\"no delegation\"", "\" \""),
    (", i-accept-the-risk = \"no delegation\"", ""),
    ("memory = { wanted", "memory = { wantd"),
    ("TZ = ", "LD_PRELOAD = "),
    ("TZ = ", "PLUGIN_X = "),
    ("TZ = ", "NODE_PATH = "),
    ("TZ = ", "\"1A\" = "),
    ("TZ = \"UTC\"", "TZ = 1"),
];

/// Refused by the parser alone: what holds between keys, or needs arithmetic.
const BAD_FOR_THE_PARSER_ALONE: &[Edit] = &[
    ("landlock = \"required\"", "proc = \"off\""),
    ("\"/srv/geo\"", "\"/srv/inbox\""),
    ("\"/data/geo\"", "\"/data\""),
    ("\"/data/geo\"", "\"/usr/lib\""),
    ("memory = \"256MiB\"", "memory = \"1MiB\""),
    ("tmp = \"16MiB\"", "tmp = \"128MiB\""),
    ("\"256MiB\"", "\"99999999999GiB\""),
    ("\"20MiB\"", "\"63KiB\""),
    ("state = \"1GiB\"", "state = \"1023KiB\""),
    ("\"1m30s\"", "\"9999999h\""),
    ("\"api.example.com:8443\"", "\"a.test:70000\""),
    ("\"/v1/*\"", "\"/%ff\""),
    ("\"/v1/*\"", "\"/..%20\""),
    ("\"/v1/*\"", "\"/%ef%bc%8f\""),
    ("\"10.0.0.0/8\"", "\"10.0.0.5/8\""),
    ("\"10.0.0.0/8\"", "\"10.0.0.0/33\""),
];

fn edited((from, to): &Edit) -> String {
    assert!(SAMPLE.contains(from), "{from}");
    SAMPLE.replacen(from, to, 1)
}

#[test]
fn both_take_and_refuse_the_same() {
    let validator = validator();
    for edit in GOOD {
        let text = edited(edit);
        assert_eq!(PolicyFile::parse(text.as_bytes()).err(), None, "{edit:?}");
        assert!(takes(&validator, &text), "{edit:?}");
    }
    for edit in BAD {
        let text = edited(edit);
        assert!(PolicyFile::parse(text.as_bytes()).is_err(), "{edit:?}");
        assert!(!takes(&validator, &text), "{edit:?}");
    }
    for edit in BAD_FOR_THE_PARSER_ALONE {
        let text = edited(edit);
        assert!(PolicyFile::parse(text.as_bytes()).is_err(), "{edit:?}");
        assert!(
            takes(&validator, &text),
            "{edit:?}: it belongs among the others"
        );
    }
}

#[test]
fn the_line_for_editors_names_the_schema() {
    let schema = schema();
    let id = schema["$id"].as_str().unwrap();
    assert_eq!(POLICY_SCHEMA_LINE, format!("#:schema {id}"));
    let reference = include_str!("../../../../docs/policy.md");
    assert!(reference.contains(POLICY_SCHEMA_LINE));
}

#[test]
fn every_key_is_in_the_schema_and_no_other() {
    let schema = schema();
    for (table, keys) in PolicyFile::known_keys() {
        let mut at = &schema;
        for part in table.split('.').filter(|part| !part.is_empty()) {
            at = match part {
                "*" => &schema["$defs"]["limit"]["anyOf"][1],
                part => &at["properties"][part],
            };
            if at["items"]["properties"].is_object() {
                at = &at["items"];
            }
        }
        let known: BTreeSet<&str> = keys.iter().copied().collect();
        let has: BTreeSet<&str> = at["properties"]
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(has, known, "[{table}]");
        assert_eq!(at["additionalProperties"], Value::Bool(false), "[{table}]");
    }
}

#[test]
fn every_control_is_in_the_schema_with_its_default_and_sentence() {
    let schema = schema();
    let controls = schema["properties"]["controls"]["properties"]
        .as_object()
        .unwrap();
    let ids: BTreeSet<&str> = controls.keys().map(String::as_str).collect();
    assert_eq!(
        ids,
        Control::ALL.iter().map(|control| control.id()).collect()
    );
    for control in Control::ALL {
        let entry = &controls[control.id()];
        assert_eq!(
            entry["default"],
            control.default_wanted().to_string(),
            "{control}"
        );
        assert_eq!(entry["description"], control.about());
        let kind = match (control.default_wanted(), control.may_be_lowered()) {
            (Wanted::Required, false) => "wall",
            (Wanted::Required, true) => "limit",
            _ => "preferred",
        };
        assert_eq!(entry["$ref"], format!("#/$defs/{kind}"), "{control}");
    }
}

#[test]
fn defaults_are_those_of_the_program() {
    let schema = schema();
    for (table, defaults) in [
        ("limits", serde_json::to_value(Limits::default()).unwrap()),
        (
            "timeouts",
            serde_json::to_value(Timeouts::default()).unwrap(),
        ),
        ("rates", serde_json::to_value(Rates::default()).unwrap()),
    ] {
        for (key, property) in schema["properties"][table]["properties"]
            .as_object()
            .unwrap()
        {
            let default = property.get("default").cloned().unwrap_or(Value::Null);
            let own = defaults.get(key).cloned().unwrap_or(Value::Null);
            assert_eq!(default, own, "{table}.{key}");
        }
    }
}
