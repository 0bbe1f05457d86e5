# Texts and lists, without nixpkgs' lib.
rec {
  hasPrefix = prefix: text: builtins.substring 0 (builtins.stringLength prefix) text == prefix;

  hasSuffix =
    suffix: text:
    let
      length = builtins.stringLength text;
      tail = builtins.stringLength suffix;
    in
    length >= tail && builtins.substring (length - tail) tail text == suffix;

  removePrefix =
    prefix: text:
    if hasPrefix prefix text then
      builtins.substring (builtins.stringLength prefix) (builtins.stringLength text) text
    else
      text;

  removeSuffix =
    suffix: text:
    if hasSuffix suffix text then
      builtins.substring 0 (builtins.stringLength text - builtins.stringLength suffix) text
    else
      text;

  # The parts between the separators. The separator is a plain text.
  split =
    separator: text:
    builtins.filter builtins.isString (builtins.split (escapeRegex separator) text);

  escapeRegex =
    let
      special = [ "\\" "." "+" "*" "?" "(" ")" "[" "]" "{" "}" "^" "$" "|" ];
    in
    builtins.replaceStrings special (map (character: "\\${character}") special);

  shellArgument = text: "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text)}'";

  lines = builtins.concatStringsSep "\n";

  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: values: if condition then values else { };
  optionalString = condition: text: if condition then text else "";

  # Sorted, each once.
  unique = texts: builtins.attrNames (builtins.listToAttrs (map (name: { inherit name; value = null; }) texts));

  filterAttrs =
    keep: values:
    builtins.removeAttrs values (builtins.filter (name: !keep name values.${name}) (builtins.attrNames values));

  # As cargo makes a crate's name from a package's.
  crateName = builtins.replaceStrings [ "-" ] [ "_" ];

  firstString = candidates: fallback:
    let
      texts = builtins.filter builtins.isString candidates;
    in
    if texts == [ ] then fallback else builtins.head texts;
}
