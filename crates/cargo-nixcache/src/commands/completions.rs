//! `completions`: what a shell needs to complete `cargo nixcache`.
//!
//! Cargo has completions of its own, which stay: bash is told to hand over what follows `nixcache`, zsh's completion of
//! cargo asks for a function named like this one, and fish adds to what it knows. bash is given words from
//! `nixcache` on, so that its script is for a program of that name; clap's script for a name with a hyphen would not find
//! its own subcommands (clap_complete 4.6).

use std::process::ExitCode;

use clap::{Args as _, CommandFactory as _};
use clap_complete::{Shell, generate};

use super::print;
use crate::arguments::{Cargo, CompletionShell, Nixcache};

/// The name of our program, after which zsh and `man` look.
pub(super) const PROGRAM: &str = "cargo-nixcache";

/// What bash calls in place of cargo's own completion, which it calls in turn.
const BASH_HANDOVER: &str = r#"
_cargo_nixcache_cargo="$(complete -p cargo 2>/dev/null | sed -n 's/.* -F \([^ ]*\) .*/\1/p')"
if [[ "$_cargo_nixcache_cargo" == _cargo_nixcache_handover ]]; then
    _cargo_nixcache_cargo="$_cargo_nixcache_before"
fi
_cargo_nixcache_before="$_cargo_nixcache_cargo"

_cargo_nixcache_handover() {
    if [[ "${COMP_WORDS[1]}" == nixcache && "$COMP_CWORD" -gt 1 ]]; then
        COMP_WORDS=("${COMP_WORDS[@]:1}")
        COMP_CWORD=$((COMP_CWORD - 1))
        _nixcache nixcache "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
    elif [[ -n "$_cargo_nixcache_before" ]]; then
        "$_cargo_nixcache_before" "$@"
    fi
}
complete -F _cargo_nixcache_handover -o bashdefault -o default cargo
"#;

/// `cargo nixcache completions`
pub(crate) fn run(shell: CompletionShell) -> ExitCode {
    let mut script = Vec::new();
    match shell {
        CompletionShell::Bash => generate(Shell::Bash, &mut program("nixcache"), "nixcache", &mut script),
        CompletionShell::Zsh => generate(Shell::Zsh, &mut program(PROGRAM), PROGRAM, &mut script),
        CompletionShell::Fish => generate(Shell::Fish, &mut Cargo::command(), "cargo", &mut script),
    }
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if shell == CompletionShell::Bash {
        script.push_str(BASH_HANDOVER);
    }
    print(script.trim_end());
    ExitCode::SUCCESS
}

/// `cargo nixcache` as if it were a program of this name.
pub(super) fn program(name: &'static str) -> clap::Command {
    let about = Cargo::command().find_subcommand("nixcache").and_then(|command| command.get_about().cloned());
    let program = Nixcache::augment_args(clap::Command::new(name));
    match about {
        Some(about) => program.about(about),
        None => program,
    }
}
