//! What link-time optimisation asks of each unit: whether it runs it, or must leave bitcode for those that do.
//! It is part of cargo's hash of a unit. The rules are those of cargo's `core/compiler/lto.rs` (0.96).

use std::collections::HashMap;

use super::units::{Interner, Mode, UnitEdges, UnitId};
use super::workspace::Workspace;
use crate::cargo::profile::LinkTimeOptimization;
use crate::unit::CrateType;

/// What is asked of a unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum UnitLto {
    /// It runs it; with a name, of that kind.
    Run(Option<String>),
    /// None at all.
    Off,
    /// Bitcode alone is needed.
    OnlyBitcode,
    /// Both are needed.
    ObjectAndBitcode,
    /// Machine code alone is needed.
    OnlyObject,
}

impl UnitLto {
    /// As [`crate::unit::UnitProfile::unit_lto`] has it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Run(None) => "run".to_owned(),
            Self::Run(Some(name)) => format!("run-{name}"),
            Self::Off => "off".to_owned(),
            Self::OnlyBitcode => "only-bitcode".to_owned(),
            Self::ObjectAndBitcode => "object-and-bitcode".to_owned(),
            Self::OnlyObject => "only-object".to_owned(),
        }
    }
}

/// Decides for every unit.
pub(super) fn decide<'m>(
    interner: &Interner<'m>,
    workspace: &Workspace<'m>,
    edges: &UnitEdges<'m>,
    roots: &[UnitId],
) -> HashMap<UnitId, UnitLto> {
    let mut decided = HashMap::with_capacity(edges.len());
    for root in roots {
        let unit = interner.get(*root);
        let target = unit.target(workspace);
        let lto = match unit.profile.lto {
            LinkTimeOptimization::Bool(false) => UnitLto::OnlyObject,
            LinkTimeOptimization::Off => UnitLto::Off,
            _ if target.for_host => UnitLto::OnlyObject,
            _ if needs_object(&target.crate_types) => for_object(&target.crate_types),
            _ => UnitLto::OnlyBitcode,
        };
        let mut stack = vec![(*root, lto)];
        while let Some((id, asked)) = stack.pop() {
            let own = of_unit(interner, workspace, id, asked);
            let merged = match decided.get(&id) {
                None => own,
                Some(before) => {
                    let merged = merge(own, before);
                    if merged == *before {
                        continue;
                    }
                    merged
                }
            };
            stack.extend(edges[&id].iter().rev().map(|edge| (edge.unit, merged.clone())));
            decided.insert(id, merged);
        }
    }
    decided
}

fn of_unit<'m>(interner: &Interner<'m>, workspace: &Workspace<'m>, id: UnitId, asked: UnitLto) -> UnitLto {
    let unit = interner.get(id);
    let target = unit.target(workspace);
    let crate_types = match unit.mode {
        Mode::Test | Mode::Doctest => &[CrateType::Bin],
        _ => target.crate_types.as_slice(),
    };
    if target.for_host {
        return UnitLto::OnlyObject;
    }
    if crate_types.iter().all(can_lto) {
        return match &unit.profile.lto {
            LinkTimeOptimization::Named(name) => UnitLto::Run(Some(name.clone())),
            LinkTimeOptimization::Off => UnitLto::Off,
            LinkTimeOptimization::Bool(true) => UnitLto::Run(None),
            LinkTimeOptimization::Bool(false) => UnitLto::OnlyObject,
        };
    }
    match (asked, needs_object(crate_types)) {
        (UnitLto::Run(_), false) => UnitLto::OnlyBitcode,
        (UnitLto::Run(_) | UnitLto::OnlyBitcode, true) => for_object(crate_types),
        (asked, _) => asked,
    }
}

fn merge(own: UnitLto, before: &UnitLto) -> UnitLto {
    match (own, before) {
        (UnitLto::Run(name), _) => UnitLto::Run(name),
        (_, UnitLto::Run(name)) => UnitLto::Run(name.clone()),
        (UnitLto::Off, _) | (_, UnitLto::Off) => UnitLto::Off,
        (own, before) if own == *before => own,
        // Whoever needs more decides, and different needs add up.
        _ => UnitLto::ObjectAndBitcode,
    }
}

fn can_lto(kind: &CrateType) -> bool {
    matches!(kind, CrateType::Bin | CrateType::Staticlib | CrateType::Cdylib)
}

fn needs_object(crate_types: &[CrateType]) -> bool {
    let is_dynamic = |kind: &CrateType| matches!(kind, CrateType::Dylib | CrateType::Cdylib | CrateType::ProcMacro);
    crate_types.iter().any(|kind| can_lto(kind) || is_dynamic(kind))
}

fn for_object(crate_types: &[CrateType]) -> UnitLto {
    if crate_types.iter().all(|kind| *kind == CrateType::Dylib) {
        UnitLto::OnlyObject
    } else {
        UnitLto::ObjectAndBitcode
    }
}
