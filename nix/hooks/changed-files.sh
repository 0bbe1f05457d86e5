# Which files of a target directory are not as they were. A program can give a file any time that it likes (a build
# script may copy one with its old time, and what was unpacked has a time of long ago), but neither its inode number nor
# the time of its last change of any kind.

# Writes down what is in the directory $1 into the file $2.
noteTargetFiles() {
  mkdir -p "$1"
  (cd "$1" && find . ! -type d -printf '%i %s %C@ %p\0') | LC_ALL=C sort --zero-terminated >"$2"
}

# The names of the files in $1 that the note $2 does not have, or has otherwise; each ended by a zero byte.
changedTargetFiles() {
  noteTargetFiles "$1" "$2.now"
  LC_ALL=C comm --zero-terminated -13 "$2" "$2.now" | cut --zero-terminated --delimiter=' ' --fields=4- |
    LC_ALL=C sort --zero-terminated
}
