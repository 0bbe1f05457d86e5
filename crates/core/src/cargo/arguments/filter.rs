//! Which targets of the selected packages a command is about (cargo's `CompileFilter`).

use super::{CargoCommand, Intent, Subcommand};

/// Which targets a command is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The ones that the command has as its default.
    Default {
        /// Whether targets whose features are off are skipped, rather than an error.
        skip_unavailable: bool,
    },
    /// The ones that are named.
    Only {
        /// `--all-targets`
        all_targets: bool,
        /// The library.
        library: LibraryRule,
        /// Binaries.
        binaries: Rule,
        /// Examples.
        examples: Rule,
        /// Tests.
        tests: Rule,
        /// Benchmarks.
        benches: Rule,
    },
}

/// Whether the library is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LibraryRule {
    /// It is, and must be there.
    Yes,
    /// It is, if there is one.
    IfAny,
    /// It is not.
    No,
}

/// Which targets of a kind are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Every one.
    All,
    /// The ones of these names or patterns.
    Named(Vec<String>),
}

impl Rule {
    fn new(all: bool, names: &[String]) -> Self {
        if all { Self::All } else { Self::Named(names.to_vec()) }
    }

    fn none() -> Self {
        Self::Named(Vec::new())
    }

    fn is_specific(&self) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => !names.is_empty(),
        }
    }
}

impl Filter {
    /// One binary.
    pub fn binary(name: &str) -> Self {
        Self::Only {
            all_targets: false,
            library: LibraryRule::No,
            binaries: Rule::Named(vec![name.to_owned()]),
            examples: Rule::none(),
            tests: Rule::none(),
            benches: Rule::none(),
        }
    }

    /// Whether dev-dependencies are built.
    pub fn needs_dev_dependencies(&self, intent: Intent) -> bool {
        match intent {
            Intent::Test | Intent::Bench | Intent::Doctest | Intent::Check { test: true } => true,
            Intent::Build | Intent::Doc { .. } | Intent::Check { test: false } => match self {
                Self::Default { .. } => false,
                Self::Only { examples, tests, benches, .. } => {
                    examples.is_specific() || tests.is_specific() || benches.is_specific()
                }
            },
        }
    }
}

impl CargoCommand {
    /// The targets that the command line is about. `default-run` is not looked at.
    pub fn filter(&self) -> Filter {
        let names = &self.names;
        if names.doctests && self.subcommand == Subcommand::Test {
            return Filter::Only {
                all_targets: false,
                library: LibraryRule::Yes,
                binaries: Rule::none(),
                examples: Rule::none(),
                tests: Rule::none(),
                benches: Rule::none(),
            };
        }
        if names.all_targets {
            return Filter::Only {
                all_targets: true,
                library: LibraryRule::IfAny,
                binaries: Rule::All,
                examples: Rule::All,
                tests: Rule::All,
                benches: Rule::All,
            };
        }
        if self.names_targets() {
            return Filter::Only {
                all_targets: false,
                library: if names.library { LibraryRule::Yes } else { LibraryRule::No },
                binaries: Rule::new(names.all_binaries, &names.binaries),
                examples: Rule::new(names.all_examples, &names.examples),
                tests: Rule::new(names.all_tests, &names.tests),
                benches: Rule::new(names.all_benches, &names.benches),
            };
        }
        if self.subcommand == Subcommand::Test && !self.positional.is_empty() {
            // Who names a test wants no examples built.
            return Filter::Only {
                all_targets: false,
                library: LibraryRule::IfAny,
                binaries: Rule::none(),
                examples: Rule::none(),
                tests: Rule::All,
                benches: Rule::none(),
            };
        }
        Filter::Default { skip_unavailable: true }
    }

    /// Whether some target is named, or some kind of target.
    pub fn names_targets(&self) -> bool {
        let names = &self.names;
        names.library
            || names.all_targets
            || [names.all_binaries, names.all_examples, names.all_tests, names.all_benches].contains(&true)
            || [&names.binaries, &names.examples, &names.tests, &names.benches].iter().any(|names| !names.is_empty())
    }
}
