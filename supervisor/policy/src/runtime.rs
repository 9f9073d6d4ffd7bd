//! The runtime of a plugin: programs and files of the host that it needs, read-only.

use serde::{Deserialize, Serialize};

use crate::host_path::{PATH_LIMIT_BYTES, lies_in, of_host_fault};

/// What of the host a plugin needs to run: an interpreter, the loader of shared libraries, and the
/// trees with what they load. Everything is at the same path in the jail, read-only, and belongs to
/// the host's owner; nothing of it is covered by the plugin's digest or signature.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Runtime {
    /// The program that is executed, with the entry as its argument; without one the entry itself is
    /// executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<String>,
    /// The interpreter's own arguments, before the entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The loader that a program with shared libraries names; it may be executed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<String>,
    /// Directories that are only read: libraries, of the interpreter and of the system.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
}

/// Most of [`Runtime::paths`]: a reviewer reads each, and each is a mount of every launch.
pub const RUNTIME_PATHS_LIMIT: usize = 16;
/// Most of [`Runtime::args`].
const ARGS_LIMIT: usize = 16;
/// Longest argument, in bytes.
const TEXT_LIMIT_BYTES: usize = PATH_LIMIT_BYTES;

/// Directories that a jail has of its own.
const OWN: [&str; 4] = ["/plugin", "/state", "/tmp", "/app"];

impl Runtime {
    /// The mounts that a jail needs for it: its paths, and interpreter and loader where they lie in
    /// none of these.
    pub fn mounts(&self) -> impl Iterator<Item = &str> {
        let lies_in_a_path = |program: &str| self.paths.iter().any(|path| lies_in(program, path));
        self.paths.iter().map(String::as_str).chain(
            self.programs()
                .filter(move |program| !lies_in_a_path(program)),
        )
    }

    /// Interpreter and loader: what of it may be executed.
    pub fn programs(&self) -> impl Iterator<Item = &str> {
        [&self.interpreter, &self.loader]
            .into_iter()
            .flatten()
            .map(String::as_str)
    }

    /// What it says, a line each.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(interpreter) = &self.interpreter {
            lines.push(format!("runtime: {interpreter} runs the entry"));
        }
        if !self.args.is_empty() {
            lines.push(format!("runtime: with {:?}", self.args));
        }
        if let Some(loader) = &self.loader {
            lines.push(format!("runtime: {loader} loads shared libraries"));
        }
        let paths = self.paths.iter();
        lines.extend(paths.map(|path| format!("runtime: {path} of the host is read")));
        lines
    }

    /// What is wrong with it: key, value and why.
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, String, &'static str)> {
        if self.programs().next().is_none() {
            let why = "name an interpreter, or the loader of the entry's shared libraries";
            return Some(("runtime", "without a program".into(), why));
        }
        if self.interpreter.is_some() && self.interpreter == self.loader {
            let why = "it is named as the interpreter already";
            return Some((
                "runtime.loader",
                self.loader.clone().unwrap_or_default(),
                why,
            ));
        }
        if self.interpreter.is_none() && !self.args.is_empty() {
            let why = "they are the interpreter's, and there is none";
            return Some(("runtime.args", format!("{:?}", self.args), why));
        }
        let is_long = |arg: &String| arg.len() > TEXT_LIMIT_BYTES || arg.contains('\0');
        if self.args.len() > ARGS_LIMIT || self.args.iter().any(is_long) {
            let why = "at most 16 of 512 bytes, without NUL";
            return Some(("runtime.args", format!("{} long", self.args.len()), why));
        }
        if self.paths.len() > RUNTIME_PATHS_LIMIT {
            let why = "at most 16";
            return Some(("runtime.paths", format!("{} long", self.paths.len()), why));
        }
        let named = [
            ("runtime.interpreter", &self.interpreter),
            ("runtime.loader", &self.loader),
        ];
        let programs = named
            .into_iter()
            .filter_map(|(key, program)| Some((key, program.as_ref()?)));
        let paths = self.paths.iter().map(|path| ("runtime.paths", path));
        for (key, path) in programs.chain(paths) {
            if let Some(why) = path_fault(path) {
                return Some((key, format!("{path:?}"), why));
            }
        }
        let is_program = |path: &&String| self.programs().any(|program| program == path.as_str());
        if let Some(path) = self.paths.iter().find(is_program) {
            let why = "it is a program, which is there by itself; paths are directories";
            return Some(("runtime.paths", format!("{path:?}"), why));
        }
        for (number, path) in self.paths.iter().enumerate() {
            let mut others = self.paths.iter().enumerate();
            if others.any(|(other, tree)| other != number && lies_in(path, tree)) {
                let why = "it lies in another of the paths";
                return Some(("runtime.paths", format!("{path:?}"), why));
            }
        }
        None
    }
}

fn path_fault(path: &str) -> Option<&'static str> {
    of_host_fault(path).or_else(|| {
        let is_own = OWN.iter().any(|tree| lies_in(path, tree));
        is_own.then_some("the jail has a directory of its own there")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(text: &str) -> Runtime {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn programs_are_mounted_where_no_path_has_them() {
        let python = runtime(
            "interpreter = '/usr/bin/python3.11'\nargs = ['-I']\n\
             loader = '/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2'\n\
             paths = ['/usr/lib/python3.11', '/usr/lib/x86_64-linux-gnu']",
        );
        assert_eq!(python.fault(), None);
        assert_eq!(
            python.mounts().collect::<Vec<_>>(),
            [
                "/usr/lib/python3.11",
                "/usr/lib/x86_64-linux-gnu",
                "/usr/bin/python3.11"
            ]
        );
        let bundle = runtime("interpreter = '/opt/py/bin/python'\npaths = ['/opt/py']");
        assert_eq!(bundle.mounts().collect::<Vec<_>>(), ["/opt/py"]);
    }

    #[test]
    fn what_is_in_no_jail_or_unclear_is_refused_by_key_and_reason() {
        for (text, key, why) in [
            ("", "runtime", "name an interpreter"),
            ("paths = ['/usr']", "runtime", "name an interpreter"),
            (
                "loader = '/usr/l'\nargs = ['x']",
                "runtime.args",
                "there is none",
            ),
            (
                "interpreter = '/a'\nloader = '/a'",
                "runtime.loader",
                "already",
            ),
            ("interpreter = 'python3'", "runtime.interpreter", "absolute"),
            (
                "interpreter = '/usr/../etc/x'",
                "runtime.interpreter",
                "absolute",
            ),
            ("interpreter = '/usr//x'", "runtime.interpreter", "absolute"),
            (
                "interpreter = '/tmp/x'",
                "runtime.interpreter",
                "of its own",
            ),
            (
                "interpreter = '/x'\npaths = ['/']",
                "runtime.paths",
                "absolute",
            ),
            (
                "interpreter = '/x'\npaths = ['/etc']",
                "runtime.paths",
                "any jail",
            ),
            (
                "interpreter = '/x'\npaths = ['/proc/1/root']",
                "runtime.paths",
                "any jail",
            ),
            (
                "interpreter = '/x'\npaths = ['/run']",
                "runtime.paths",
                "any jail",
            ),
            (
                "interpreter = '/x'\npaths = ['/u', '/u/v']",
                "runtime.paths",
                "another",
            ),
            (
                "interpreter = '/x'\npaths = ['/x']",
                "runtime.paths",
                "is a program",
            ),
            (
                "interpreter = '/x'\npaths = ['/u', '/u']",
                "runtime.paths",
                "another",
            ),
        ] {
            let (found, _, reason) = runtime(text).fault().expect(text);
            assert!(
                found == key && reason.contains(why),
                "{text}: {found}: {reason}"
            );
        }
        assert_eq!(runtime("interpreter = '/etcetera/x'").fault(), None);
        let many = Runtime {
            interpreter: Some("/x".into()),
            paths: (0..17).map(|number| format!("/p{number}")).collect(),
            ..Runtime::default()
        };
        assert_eq!(many.fault().unwrap().2, "at most 16");
    }
}
