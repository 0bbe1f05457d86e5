//! The functions of Erlang's interface for NIFs, by the NIF version that they came with.
//!
//! From `erl_nif_api_funcs.h` of OTP 21 (2.14), 22 (2.15), 24 (2.16), 26 (2.17) and 29 (2.18). No function was ever
//! removed.

use super::name::NifVersion;

/// What every version from 2.14 on has.
const BASE: &str = "
    alloc alloc_binary alloc_env alloc_resource binary_to_term clear_env compare compare_monitors cond_broadcast
    cond_create cond_destroy cond_name cond_signal cond_wait consume_timeslice convert_time_unit cpu_time
    demonitor_process dlopen dlsym equal_tids fprintf free free_env free_iovec get_atom get_atom_length
    get_double get_int get_int64 get_list_cell get_list_length get_local_pid get_local_port get_long get_map_size
    get_map_value get_resource get_string get_tuple get_uint get_uint64 get_ulong getenv has_pending_exception
    hash inspect_binary inspect_iolist_as_binary inspect_iovec ioq_create ioq_deq ioq_destroy ioq_enq_binary
    ioq_enqv ioq_peek ioq_peek_head ioq_size is_atom is_binary is_current_process_alive is_empty_list
    is_exception is_fun is_identical is_list is_map is_number is_pid is_port is_port_alive is_process_alive
    is_ref is_tuple keep_resource make_atom make_atom_len make_badarg make_binary make_copy make_double
    make_existing_atom make_existing_atom_len make_int make_int64 make_list make_list_cell make_list_from_array
    make_long make_map_from_arrays make_map_put make_map_remove make_map_update make_new_binary make_new_map
    make_ref make_resource make_resource_binary make_reverse_list make_string make_string_len make_sub_binary
    make_tuple make_tuple_from_array make_uint make_uint64 make_ulong make_unique_integer map_iterator_create
    map_iterator_destroy map_iterator_get_pair map_iterator_is_head map_iterator_is_tail map_iterator_next
    map_iterator_prev monitor_process monotonic_time mutex_create mutex_destroy mutex_lock mutex_name
    mutex_trylock mutex_unlock now_time open_resource_type open_resource_type_x port_command priv_data
    raise_exception realloc realloc_binary release_binary release_resource rwlock_create rwlock_destroy
    rwlock_name rwlock_rlock rwlock_runlock rwlock_rwlock rwlock_rwunlock rwlock_tryrlock rwlock_tryrwlock
    schedule_nif select self send sizeof_resource snprintf system_info term_to_binary thread_create thread_exit
    thread_join thread_name thread_opts_create thread_opts_destroy thread_self thread_type time_offset tsd_get
    tsd_key_create tsd_key_destroy tsd_set vfprintf vsnprintf whereis_pid whereis_port
";

/// What later versions have added.
const ADDED: [(u8, &str); 4] = [
    (15, "is_pid_undefined make_monitor_term select_x set_pid_undefined term_type"),
    (16, "dynamic_resource_call init_resource_type"),
    (17, "get_string_length make_new_atom make_new_atom_len set_option"),
    (18, "get_atom_cache_index max_atom_cache_index term_size"),
];

/// What all of them begin with.
pub(super) const PREFIX: &str = "enif_";

/// The first NIF version with the function of this name, which is given with its prefix. `None` if no version has it.
pub(super) fn first_version(symbol: &str) -> Option<NifVersion> {
    let name = symbol.strip_prefix(PREFIX)?;
    all().find(|(_, known)| *known == name).map(|(version, _)| version)
}

/// The longest function whose name the text after [`PREFIX`] begins with. Rust puts texts beside each other without
/// an end, so a name can run on into the next text.
pub(super) fn longest_prefix(after_prefix: &[u8]) -> Option<(NifVersion, &'static str)> {
    all().filter(|(_, name)| after_prefix.starts_with(name.as_bytes())).max_by_key(|(_, name)| name.len())
}

fn all() -> impl Iterator<Item = (NifVersion, &'static str)> {
    let base = BASE.split_whitespace().map(|name| (NifVersion::ALL[0], name));
    let added = ADDED.iter().flat_map(|(minor, names)| {
        let version = NifVersion::ALL.into_iter().find(|version| version.minor() == *minor);
        let version = version.expect("every version of the table is known");
        names.split_whitespace().map(move |name| (version, name))
    });
    base.chain(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_have_the_version_that_they_came_with() {
        let minor = |symbol: &str| first_version(symbol).map(NifVersion::minor);
        assert_eq!(minor("enif_make_atom"), Some(14));
        assert_eq!(minor("enif_select_x"), Some(15));
        assert_eq!(minor("enif_init_resource_type"), Some(16));
        assert_eq!(minor("enif_make_new_atom_len"), Some(17));
        assert_eq!(minor("enif_term_size"), Some(18));
        assert_eq!(minor("enif_of_the_future"), None);
        assert_eq!(minor("make_atom"), None);
        assert_eq!(all().count(), 180);
    }

    #[test]
    fn names_that_run_on_are_read_as_far_as_they_are_known() {
        let longest = |text: &str| longest_prefix(text.as_bytes()).map(|(_, name)| name);
        assert_eq!(longest("make_new_atom_lenenif_x"), Some("make_new_atom_len"));
        assert_eq!(longest("make_new_atomenif_make_new_atom_len"), Some("make_new_atom"));
        assert_eq!(longest("make_new_binary"), Some("make_new_binary"));
        assert_eq!(longest("nothing"), None);
    }
}
