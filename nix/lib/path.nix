# `builtins.path` with a name that doesn't depend on the directory's own, so that two checkouts have one store path.
{ internal }:
given:
let
  arguments = if builtins.isAttrs given then given else { path = given; };
in
builtins.path ({ name = "source"; } // arguments)
