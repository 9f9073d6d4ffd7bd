//! The documentation names what there is, and its links lead somewhere.

use std::fs;
use std::path::{Path, PathBuf};

use pinfold_policy::Control;
use pinfold_sandbox::jail::Step;
use pinfold_tests::repository;

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// Every Markdown file that belongs to the project.
fn pages(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" && name != "build" {
            pages(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}

#[test]
fn every_step_of_a_launch_has_its_row() {
    let page = read("docs/jail.md");
    for step in Step::ALL {
        assert!(
            page.contains(&format!("\n| {} |", step.id())),
            "{step} has no row"
        );
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let mut found = Vec::new();
    pages(repository(), &mut found);
    assert!(found.len() > 10, "{found:?}");
    for page in found {
        let text = fs::read_to_string(&page).unwrap();
        let mut from = page.parent().unwrap();
        if page.ends_with("docs/performance/notes.md") {
            // `make bench` copies it into a page of the folder above.
            from = from.parent().unwrap();
        }
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = from.join(target);
            assert!(path.exists(), "{}: {link}", page.display());
        }
    }
}

/// What the part `commands` of `tests/vm` runs: every line of the blocks marked `sh`, without its comment.
fn commands(page: &str) -> Vec<String> {
    let blocks = page.split("\n```sh\n").skip(1);
    let lines = blocks.flat_map(|rest| rest.split("\n```").next().unwrap_or_default().lines());
    let commands = lines.map(|line| line.split(" #").next().unwrap_or_default().trim());
    let commands = commands.filter(|command| !command.is_empty() && !command.starts_with('#'));
    commands.map(ToOwned::to_owned).collect()
}

#[test]
fn every_page_with_commands_for_operators_is_run_and_what_is_special_is_of_a_command_that_exists() {
    let plan: toml::Table = read("tests/fixtures/vm/commands.toml").parse().unwrap();
    let run: Vec<&str> = (plan["pages"].as_array().unwrap().iter())
        .map(|page| page.as_str().unwrap())
        .collect();
    let mut found = Vec::new();
    pages(&repository().join("docs/operations"), &mut found);
    let mut known = Vec::new();
    for page in found {
        let commands = commands(&fs::read_to_string(&page).unwrap());
        let name = page.file_stem().unwrap().to_str().unwrap();
        assert!(
            commands.is_empty() || run.contains(&name),
            "{name} is not run"
        );
        known.extend(commands);
    }
    assert!(known.len() > 50, "{known:?}");
    for special in plan["command"].as_array().unwrap() {
        let text = special["text"].as_str().unwrap();
        assert!(
            known.iter().any(|one| one == text),
            "no page has `{text}`, of which commands.toml speaks"
        );
        if let Some(reason) = special.get("not-run") {
            assert!(!reason.as_str().unwrap().is_empty());
        }
    }
}

#[test]
fn the_policy_reference_speaks_of_controls_that_exist() {
    let page = read("docs/policy.md");
    for example in ["landlock", "memory"] {
        assert!(Control::from_id(example).is_some() && page.contains(&format!("\n{example} = ")));
    }
}
