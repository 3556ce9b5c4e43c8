//! What is shipped beside the binary, checked as far as it can be without a container.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::support::{run, within};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// What the first stage of the Dockerfile copies.
fn copied() -> Vec<String> {
    let dockerfile = std::fs::read_to_string(root().join("Dockerfile")).unwrap();
    let build = dockerfile.split("\nFROM ").nth(1).unwrap();
    let copies = build.lines().filter_map(|line| line.strip_prefix("COPY "));
    let sources = copies.flat_map(|copy| {
        let mut words: Vec<_> = copy.split_whitespace().map(str::to_owned).collect();
        words.pop();
        words
    });
    sources.collect()
}

/// Whether `.dockerignore` lets a file or a folder at the top into the build.
fn is_sent(name: &str) -> bool {
    let ignored = std::fs::read_to_string(root().join(".dockerignore")).unwrap();
    ignored.lines().any(|line| line == format!("!{name}"))
}

fn copy(from: &Path, to: &Path) {
    if !from.is_dir() {
        std::fs::copy(from, to).unwrap();
        return;
    }
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        copy(&entry.path(), &to.join(entry.file_name()));
    }
}

#[test]
fn the_image_is_built_from_what_its_dockerfile_copies() {
    run(async {
        let bare = tempfile::tempdir().unwrap();
        let copied = copied();
        assert!(copied.contains(&"src".to_owned()), "{copied:?}");
        for name in copied.iter().chain([&"docker".to_owned()]) {
            assert!(is_sent(name), ".dockerignore keeps {name} away");
        }
        for name in &copied {
            copy(&root().join(name), &bare.path().join(name));
        }
        let mut cargo = Command::new(env!("CARGO"));
        cargo
            .args(["check", "--offline", "--locked", "--package", "routemaster-command"])
            .current_dir(bare.path())
            .env("CARGO_TARGET_DIR", bare.path().join("target"))
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = cargo.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        // That it begins to compile means that all manifests and targets are there.
        let begun = within(Duration::from_secs(60), "cargo begins", async {
            let mut said = String::new();
            while let Some(line) = lines.next_line().await.unwrap() {
                said += &(line.clone() + "\n");
                if line.contains("Compiling") || line.contains("Checking") {
                    return Ok(());
                }
            }
            Err(said)
        });
        begun.await.unwrap_or_else(|said| panic!("it does not load:\n{said}"));
    });
}

#[test]
fn the_image_runs_a_shell_when_asked_and_else_the_bus() {
    let entrypoint = root().join("docker/entrypoint");
    let run = |arguments: &[&str]| {
        let ended = std::process::Command::new("sh")
            .arg(&entrypoint)
            .args(arguments)
            .env("PATH", format!("{}:/usr/bin:/bin", binary_directory().display()))
            .output()
            .unwrap();
        String::from_utf8(ended.stdout).unwrap()
    };
    assert_eq!(run(&["sh", "-c", "echo inside"]), "inside\n");
    assert!(run(&["--version"]).starts_with("routemaster "));
}

fn binary_directory() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_routemaster")).parent().unwrap().to_owned()
}

#[test]
fn what_measures_the_bus_beside_others_can_be_read() {
    run(async {
        let peers = root().join("benches/peers");
        let packages = std::fs::read_to_string(peers.join("package.json")).unwrap();
        let packages: serde_json::Value = serde_json::from_str(&packages).unwrap();
        let known = packages["dependencies"].as_object().unwrap();
        let mut scripts = 0;
        for entry in std::fs::read_dir(&peers).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.extension().is_none_or(|extension| extension != "mjs") {
                continue;
            }
            scripts += 1;
            let checked = Command::new("node").arg("--check").arg(&entry).output();
            let checked = within(Duration::from_secs(20), "it is read", checked).await.unwrap();
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
            let text = std::fs::read_to_string(&entry).unwrap();
            let imported = text.lines().filter_map(|line| line.split(" from \"").nth(1));
            for name in imported.filter_map(|rest| rest.split('"').next()) {
                let is_own = name.starts_with('.') || name.starts_with("node:");
                assert!(is_own || known.contains_key(name), "{name} is not in package.json");
            }
        }
        assert_eq!(scripts, 3);
        let parse = "import ast, sys; ast.parse(open(sys.argv[1]).read())";
        let tasks =
            Command::new("python3").args(["-c", parse]).arg(peers.join("tasks.py")).output();
        let tasks = within(Duration::from_secs(20), "it is read", tasks).await.unwrap();
        assert!(tasks.status.success(), "{}", String::from_utf8_lossy(&tasks.stderr));
        let run = Command::new("bash").arg("-n").arg(peers.join("run")).output();
        assert!(
            within(Duration::from_secs(20), "run is read", run).await.unwrap().status.success()
        );
    });
}
