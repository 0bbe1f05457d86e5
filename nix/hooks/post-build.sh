#!/bin/sh
# Nix runs this after each build, waits for it, and fails the build with it. So it only writes down what was built, and
# leaves the copying to a process that nobody waits for.
PATH="@nix@$PATH"
queue=@queue@
umask 077
mkdir -p "$(dirname "$queue")" 2>/dev/null || exit 0
for path in ${OUT_PATHS:-}; do
  echo "$path" >>"$queue"
done 2>/dev/null
[ -s "$queue" ] || exit 0

copy() {
  # One at a time. Whoever comes while this runs has left its paths in the list, which is read again at the end.
  exec 9>>"$queue.lock"
  flock --timeout 10 9 || return 0
  while [ -s "$queue" ]; do
    mv "$queue" "$queue.now" && cat "$queue.now" >>"$queue.rest" && rm -f "$queue.now"
    sort -u "$queue.rest" >"$queue.sorted"
    : >"$queue.failed"
    while IFS= read -r path; do
      # Collected meanwhile: there is nothing to copy.
      [ -e "$path" ] || continue
      key=@key@
      if [ -n "$key" ]; then
        timeout 60 nix --extra-experimental-features nix-command store sign --key-file "$key" "$path" ||
          { echo "$path" >>"$queue.failed"; continue; }
      fi
      timeout 600 nix --extra-experimental-features nix-command copy --to @to@ "$path" || echo "$path" >>"$queue.failed"
    done <"$queue.sorted"
    # What failed waits for the next build.
    mv "$queue.failed" "$queue.rest"
    rm -f "$queue.sorted"
  done
}
copy >>"$queue.log" 2>&1 </dev/null &
exit 0
