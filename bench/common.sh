# What benchmarks share. They source it; `only`, `work` and `crate` are theirs.

note() { echo "$*" >&2; }

# wanted PART: whether `only` leaves it in.
wanted() { [ -z "$only" ] || [[ " $only " == *" $1 "* ]]; }

# median: of the numbers that come in, one a line.
median() {
    sort -n | awk '{ value[NR] = $1 } END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}

# checkout DIRECTORY: a copy of the published crate `crate` (NAME@VERSION), as a workspace of its own. Again, it undoes
# what was changed there, times too.
checkout() {
    mkdir -p "$work/$1"
    cp -Rp "$published/." "$work/$1/"
    rm -f "$work/$1/.cargo-ok"
    printf '\n[workspace]\n' >>"$work/$1/Cargo.toml"
    touch -r "$published/Cargo.toml" "$work/$1/Cargo.toml"
}

# download: makes cargo download the published crate, by a package that depends on it.
download() {
    local name=${crate%@*} version=${crate#*@}
    mkdir -p "$work/fetch/src"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2024"\n[dependencies]\n%s = "=%s"\n[workspace]\n' \
        "$name" "$version" >"$work/fetch/Cargo.toml"
    touch "$work/fetch/src/lib.rs"
    (cd "$work/fetch" && cargo fetch --quiet) || { note "$crate can't be downloaded"; exit 1; }
    published=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -name "$name-$version" | head -n 1)
}

# set_aside PATH: moves what an earlier arm made out of the way. It stays until the end: ext4 passes over inodes that
# were freed in the last minutes, one by one, and nobody who builds in a fresh checkout waits for that.
set_aside() {
    mkdir -p "$work/aside"
    if [ -e "$1" ]; then mv "$1" "$(mktemp -d "$work/aside/XXXXXX")/"; fi
}

# ready MEGABYTES PATH…: before an arm that is over soon. What it reads is in memory, and so is room for what it writes:
# a virtual machine gives free memory back to its host, and the first touch of each page then takes longer than
# whatever is written there. All arms get the same.
ready() {
    local room=$1 file
    shift
    find "$@" -type f -exec cat {} + >/dev/null 2>&1 || true
    sync
    if ! file=$(mktemp /dev/shm/nixcache-bench.XXXXXX 2>/dev/null); then return; fi
    head -c "${room}M" /dev/zero >"$file" 2>/dev/null || true
    rm -f "$file"
}
