//! TOML as skeletons have it: sorted, a header for each table of the first level, everything below in one line. The
//! skeleton that Nix makes is the same, byte for byte.

use toml::{Table, Value};

/// A whole document.
pub(super) fn document(table: &Table) -> String {
    let mut text = String::new();
    let is_section = |value: &Value| match value {
        Value::Table(_) => true,
        Value::Array(entries) => !entries.is_empty() && entries.iter().all(Value::is_table),
        _ => false,
    };
    for (name, value) in sorted(table).filter(|(_, value)| !is_section(value)) {
        text += &format!("{} = {}\n", key(name), inline(value));
    }
    for (name, value) in sorted(table).filter(|(_, value)| is_section(value)) {
        match value {
            Value::Table(table) => text += &format!("\n[{}]\n{}", key(name), body(table)),
            Value::Array(entries) => {
                for table in entries.iter().filter_map(Value::as_table) {
                    text += &format!("\n[[{}]]\n{}", key(name), body(table));
                }
            }
            _ => {}
        }
    }
    text
}

fn body(table: &Table) -> String {
    sorted(table).map(|(name, value)| format!("{} = {}\n", key(name), inline(value))).collect()
}

/// By name; what the parser keeps is in the order of the file.
fn sorted(table: &Table) -> impl Iterator<Item = (&String, &Value)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.as_str());
    entries.into_iter()
}

fn key(name: &str) -> String {
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !name.is_empty() && name.bytes().all(is_bare) { name.to_owned() } else { quoted(name) }
}

/// The escapes of JSON's texts are those of TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value in one line.
pub(super) fn inline(value: &Value) -> String {
    match value {
        Value::Table(table) if table.is_empty() => "{}".to_owned(),
        Value::Table(table) => {
            let entries: Vec<_> =
                sorted(table).map(|(name, value)| format!("{} = {}", key(name), inline(value))).collect();
            format!("{{ {} }}", entries.join(", "))
        }
        Value::Array(entries) => format!("[{}]", entries.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}
