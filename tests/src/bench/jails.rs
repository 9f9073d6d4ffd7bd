//! What a jail itself costs: a program that does nothing, started in one and gone again; and how much
//! memory a jail holds in which a program waits.

mod peers;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use pinfold_sandbox::protocol::{ExitCause, Launched};
use serde::{Deserialize, Serialize};

use super::ours::jailed::Host;
use super::process::{LIMIT, Pace, Process};
use super::record::Results;
use super::section::{
    About, Better, Case, Effort, Plot, Role, Section, Subject, Turn, Values, measure, without_root,
};
use crate::{binary, target_dir};
use peers::Peer;

/// The section.
#[derive(Debug)]
pub(super) struct Jails;

const POOLED: &str = "Pinfold";
const UNPOOLED: &str = "Pinfold, nothing prepared";
const PLAIN: &str = "fork and exec";
const BUBBLEWRAP: &str = "bubblewrap";
const CRUN: &str = "crun";
const CRUN_UNLIMITED: &str = "crun, without groups";
const RUNC: &str = "runc";

/// In each round, one after the other.
const STARTS: u64 = 30;
const STARTS_OF_A_TRY: u64 = 5;
/// Between two starts. Services do not start plugins back to back, and what is prepared for the next
/// is prepared then.
const REST: Duration = Duration::from_millis(30);
/// Jails at a time when their memory is looked at.
const HELD: u64 = 40;
const HELD_OF_A_TRY: u64 = 4;
/// The only case.
const CASE: &str = "true";

/// The program that runs in them: static, so that no loader is measured.
const SOURCE: &str = "#include <unistd.h>\nint main(void) { return STAYS ? pause() : 0; }\n";

/// What a subject is told.
#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    kind: Kind,
    starts: usize,
    /// So many jails at once instead, until standard input ends.
    held: usize,
}

#[derive(Debug, Serialize, Deserialize)]
enum Kind {
    Ours { launcher: PathBuf, pool: usize },
    Peer(Peer),
}

impl Section for Jails {
    fn about(&self) -> About {
        let peer = |name, tool: &str| {
            let absent = format!("{tool} is not installed");
            Subject::new(name, Role::Peer)
                .absent_for((!peers::is_installed(tool)).then_some(absent.as_str()))
                .absent_for(without_root())
        };
        About {
            name: "jails",
            title: "Jails",
            question: "What does a jail cost by itself, against other programs that make one?",
            method: "A static program that does nothing is started, ends, and is reaped, 30 times in each \
                round with a rest of 30 ms between. Bubblewrap makes the same namespaces with a small \
                root of its own; crun and runc run a bundle with the same namespaces and limits. None \
                of these filters system calls. Pinfold does all that it does for a plugin; its \
                program was staged before. For memory 40 jails are held at once, in which a program \
                waits: what the control group is charged for each, the kernel's part included.",
            subjects: vec![
                peer(BUBBLEWRAP, "bwrap"),
                Subject::new(PLAIN, Role::Limit),
                Subject::new(POOLED, Role::Ours).absent_for(without_root()),
                Subject::new(UNPOOLED, Role::Ours).absent_for(without_root()),
                peer(CRUN, "crun"),
                peer(CRUN_UNLIMITED, "crun"),
                peer(RUNC, "runc"),
            ],
            measures: vec![
                measure("p50_ms", "until reaped, p50", "ms", Better::Less, true),
                measure("max_ms", "slowest of a round", "ms", Better::Less, false),
                measure(
                    "exec_ms",
                    "until it executes, p50",
                    "ms",
                    Better::Less,
                    false,
                ),
                measure(
                    "memory_kib",
                    "memory of one that waits",
                    "KiB",
                    Better::Less,
                    false,
                ),
            ],
            plots: vec![Plot {
                logarithmic: true,
                ..Plot::bars(
                    "p50",
                    "Start, end and reaping of a program that does nothing, ms",
                    "p50_ms",
                )
            }],
        }
    }

    fn cases(&self, effort: &Effort) -> Vec<Case> {
        let (starts, held) = match effort.quick {
            true => (STARTS_OF_A_TRY, HELD_OF_A_TRY),
            false => (STARTS, HELD),
        };
        vec![Case::new(CASE, &[("starts", starts), ("held", held)])]
    }

    fn prepare(&self) -> anyhow::Result<()> {
        drop(binary("pinfold-launcher"));
        for stays in [false, true] {
            compile(stays)?;
        }
        Ok(())
    }

    fn measure(&self, turn: &Turn<'_>) -> anyhow::Result<Values> {
        let spec = |starts, held| {
            let kind = kind(turn.subject);
            serde_json::to_string(&Spec { kind, starts, held })
        };
        let start = |spec: &str| Process::start(turn.subject, turn.group.subject("jails", spec));
        let mut process = start(&spec(turn.case.count("starts"), 0)?)?;
        let (mut values, _) = process.drive(turn.group, 0.0)?;
        process.end()?;
        // Containers of crun and runc are in groups that those make elsewhere.
        if ![CRUN, CRUN_UNLIMITED, RUNC].contains(&turn.subject) {
            let held = turn.case.get("held");
            let mut process = start(&spec(0, turn.case.count("held"))?)?;
            process.hear("ready", LIMIT)?;
            let before = turn.group.memory()?.charged_bytes;
            process.say("go")?;
            process.hear("done", LIMIT)?;
            process.line(LIMIT)?;
            let bytes = turn.group.memory()?.charged_bytes.saturating_sub(before);
            process.end()?;
            #[expect(clippy::cast_precision_loss, reason = "some megabytes, some jails")]
            let each = bytes as f64 / 1024.0 / held as f64;
            values.insert("memory_kib".to_owned(), each);
        }
        Ok(values)
    }

    fn serve(&self, spec: &str) -> anyhow::Result<()> {
        let spec: Spec = serde_json::from_str(spec).context("understand the subject")?;
        match spec.held {
            0 => measure_starts(&spec),
            held => hold(&spec, held),
        }
    }

    fn remarks(&self, results: &Results<'_>) -> Vec<String> {
        let mut remarks = Vec::new();
        for (ours, peer, asked) in [
            (POOLED, CRUN, "at most 0.25"),
            (POOLED, CRUN_UNLIMITED, "no bound"),
            (POOLED, RUNC, "no bound"),
            (UNPOOLED, CRUN, "at most 0.25"),
        ] {
            if let Some(ratio) = results.ratio(ours, peer, CASE, "p50_ms") {
                remarks.push(format!(
                    "{ours} to {peer}: {:.2} ({:.2} to {:.2}). Asked: {asked}.",
                    ratio.median, ratio.min, ratio.max
                ));
            }
        }
        let memory = |subject| results.median(subject, CASE, "memory_kib");
        if let Some((plain, ours)) = memory(PLAIN).zip(memory(POOLED)) {
            let beyond = |held: f64| format!("{:.0} KiB", held - plain);
            let peer = memory(BUBBLEWRAP).map_or_else(String::new, |held| {
                format!("; one of bubblewrap {}", beyond(held))
            });
            remarks.push(format!(
                "Beyond the program itself an idle jail holds {}{peer}.",
                beyond(ours)
            ));
        }
        remarks
    }
}

fn kind(subject: &str) -> Kind {
    let ours = |pool| Kind::Ours {
        launcher: binary("pinfold-launcher"),
        pool,
    };
    match subject {
        POOLED => ours(pinfold_policy::NETNS_POOL),
        UNPOOLED => ours(0),
        BUBBLEWRAP => Kind::Peer(Peer::Bubblewrap),
        CRUN => Kind::Peer(Peer::Crun { groups: true }),
        CRUN_UNLIMITED => Kind::Peer(Peer::Crun { groups: false }),
        RUNC => Kind::Peer(Peer::Runc),
        _ => Kind::Peer(Peer::Plain),
    }
}

fn program(stays: bool) -> PathBuf {
    target_dir().join(if stays { "bench-stays" } else { "bench-ends" })
}

fn compile(stays: bool) -> anyhow::Result<()> {
    let source = target_dir().join("bench-true.c");
    std::fs::write(&source, SOURCE)?;
    let status = Command::new("cc")
        .args(["-static", "-O1", "-o"])
        .arg(program(stays))
        .arg(format!("-DSTAYS={}", u8::from(stays)))
        .arg(&source)
        .status()
        .context("start cc")?;
    ensure!(status.success(), "cc: {status}");
    Ok(())
}

fn measure_starts(spec: &Spec) -> anyhow::Result<()> {
    let program = program(false);
    let mut one = starter(&spec.kind, &program)?;
    // The first finds nothing in memory.
    one()?;
    let pace = Pace::ready()?;
    let (mut whole, mut until_exec) = (Vec::new(), Vec::new());
    for _ in 0..spec.starts {
        std::thread::sleep(REST);
        let begin = Instant::now();
        until_exec.extend(one()?.map(|at| at.duration_since(begin).as_secs_f64() * 1e3));
        whole.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    pace.done(|| {
        let mut values = Values::new();
        for (key, mut times) in [("p50_ms", whole), ("exec_ms", until_exec)] {
            times.sort_by(f64::total_cmp);
            if let Some(middle) = times.get(times.len().saturating_sub(1) / 2) {
                values.insert(key.to_owned(), *middle);
            }
            if let Some(slowest) = times.last().filter(|_| key == "p50_ms") {
                values.insert("max_ms".to_owned(), *slowest);
            }
        }
        anyhow::Ok(values)
    })
}

/// What starts the program once and waits until it is gone. It answers when the program was seen to
/// execute, where that is told.
type Starter<'a> = Box<dyn FnMut() -> anyhow::Result<Option<Instant>> + 'a>;

fn starter<'a>(kind: &'a Kind, program: &'a Path) -> anyhow::Result<Starter<'a>> {
    Ok(match kind {
        Kind::Ours { launcher, pool } => {
            let mut host = Host::new(launcher, program, *pool)?;
            Box::new(move || {
                let launched = host.launch()?;
                let executes = Instant::now();
                let cause = host.ended(launched.instance)?;
                ensure!(cause == ExitCause::Code(0), "the program {cause}");
                Ok(Some(executes))
            })
        }
        Kind::Peer(peer) => {
            let mut jails = peers::Jails::new(*peer, program)?;
            Box::new(move || {
                let status = jails.command().status().context("start it")?;
                ensure!(status.success(), "it ended: {status}");
                Ok(None)
            })
        }
    })
}

fn hold(spec: &Spec, held: usize) -> anyhow::Result<()> {
    let program = program(true);
    let wait_for_the_end = |pace: Pace| -> anyhow::Result<()> {
        pace.done(|| anyhow::Ok(Values::new()))?;
        std::io::stdin().read_to_end(&mut Vec::new())?;
        Ok(())
    };
    match &spec.kind {
        Kind::Ours { launcher, pool } => {
            let mut host = Host::new(launcher, &program, *pool)?;
            let pace = Pace::ready()?;
            let jails: Vec<Launched> =
                (0..held).map(|_| host.launch()).collect::<Result<_, _>>()?;
            wait_for_the_end(pace)?;
            drop(jails);
        }
        Kind::Peer(peer) => {
            let mut jails = peers::Jails::new(*peer, &program)?;
            let pace = Pace::ready()?;
            let mut children = Vec::new();
            for _ in 0..held {
                children.push(jails.command().spawn().context("start it")?);
            }
            jails.wait_until_running(&children)?;
            wait_for_the_end(pace)?;
            for mut child in children {
                child.kill()?;
                child.wait()?;
            }
        }
    }
    Ok(())
}
