//! Compares the plan of one command line with cargo's own: `oracle DIRECTORY build --release`.

use nixcache_tests::oracle::{Verdict, Workspace};

#[expect(clippy::print_stdout, reason = "it is a program for people")]
fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((directory, command)) = arguments.split_first() else {
        println!("usage: oracle DIRECTORY CARGO-ARGUMENTS…");
        return std::process::ExitCode::from(2);
    };
    let directory = camino::Utf8Path::new(directory);
    let directory = directory.canonicalize_utf8().unwrap_or_else(|_| directory.to_owned());
    let mut workspace = Workspace::new(&directory, &[]);
    let mut wrong = false;
    for line in command.split(|word| word == "///") {
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        let verdict = workspace.compare(&line);
        wrong |= matches!(verdict, Verdict::Different(_));
        match verdict {
            Verdict::Equal { units } => println!("equal, {units} units, {:?}: {}", workspace.planning, line.join(" ")),
            Verdict::Different(report) => println!("DIFFERENT: {}\n{report}", line.join(" ")),
            Verdict::BothRefuse(reason) => println!("both refuse: {}: {reason}", line.join(" ")),
            Verdict::PassedThrough(reason) => println!("passed through: {}: {reason}", line.join(" ")),
        }
    }
    std::process::ExitCode::from(u8::from(wrong))
}
