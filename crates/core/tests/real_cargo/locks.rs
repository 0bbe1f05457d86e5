//! Cargo waits for our locks, and we for cargo's.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nixcache_core::cargo::layout::{BuildLocks, LockError, LockProtocol};

use crate::fixture::{Machine, toolchains, write};

#[test]
fn cargo_and_we_exclude_one_another() {
    for toolchain in toolchains() {
        let machine = Machine::new("machine");
        let layout = machine.layout(&toolchain);
        let protocol = LockProtocol::of(toolchain.release);
        for command in ["check", "build"] {
            let locks = BuildLocks::try_acquire([&layout], protocol, command == "build").unwrap();
            let mut child =
                machine.command(&toolchain, &[command, "-p", "mac"]).stderr(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
            let blocked = lines.by_ref().map(Result::unwrap).find(|line| line.contains("Blocking"));
            assert!(blocked.is_some_and(|line| line.contains("waiting for file lock on")), "{}", toolchain.name);
            drop(locks);
            lines.for_each(drop);
            assert!(child.wait().unwrap().success());
        }

        // A build script that waits for a file shows that a cargo at work keeps us out.
        let (started, finish) = (machine.root.join("started"), machine.root.join("finish"));
        write(
            &machine.workspace.join("plain/build.rs"),
            &format!(
                "fn main() {{\n    std::fs::write({started:?}, \"\").unwrap();\n    \
                 while !std::path::Path::new({finish:?}).exists() {{\n        \
                 std::thread::sleep(std::time::Duration::from_millis(5));\n    }}\n}}\n"
            ),
        );
        let mut child = machine.command(&toolchain, &["check", "-p", "plain"]).stderr(Stdio::null()).spawn().unwrap();
        while !started.exists() {
            assert!(child.try_wait().unwrap().is_none(), "{}: cargo ended", toolchain.name);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let busy = BuildLocks::try_acquire([&layout], protocol, false);
        write(&finish, "");
        assert!(matches!(busy, Err(LockError::Busy { .. })), "{}: {busy:?}", toolchain.name);
        drop(BuildLocks::acquire([&layout], protocol, true).unwrap());
        assert!(child.wait().unwrap().success());
    }
}
