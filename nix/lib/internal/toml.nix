# From a value to TOML. Tables of the first level get a header each, everything below them is written in line: cargo
# reads both the same way, and one line per key is what a person compares.
let
  attrNames = builtins.attrNames;
  isTable = builtins.isAttrs;
  isTableList = value: builtins.isList value && value != [ ] && builtins.all isTable value;

  # The escapes of JSON's texts are those of TOML's, but for 0x7f, which no manifest holds.
  quote = builtins.toJSON;
  key = name: if builtins.match "[A-Za-z0-9_-]+" name != null then name else quote name;

  inline =
    value:
    if isTable value then
      if value == { } then
        "{}"
      else
        "{ ${builtins.concatStringsSep ", " (map (name: "${key name} = ${inline value.${name}}") (attrNames value))} }"
    else if builtins.isList value then
      "[${builtins.concatStringsSep ", " (map inline value)}]"
    else if builtins.isFloat value then
      # A whole number would be read as an integer.
      let
        written = builtins.toJSON value;
      in
      if builtins.match "-?[0-9]+" written != null then "${written}.0" else written
    else if builtins.isString value || builtins.isInt value || builtins.isBool value then
      builtins.toJSON value
    else
      throw "nixcache: a ${builtins.typeOf value} has no form in TOML";

  body = table: builtins.concatStringsSep "" (map (name: "${key name} = ${inline table.${name}}\n") (attrNames table));

  section =
    document: name:
    let
      value = document.${name};
    in
    if isTable value then
      "\n[${key name}]\n${body value}"
    else
      builtins.concatStringsSep "" (map (entry: "\n[[${key name}]]\n${body entry}") value);
in
document:
let
  isSection = name: isTable document.${name} || isTableList document.${name};
  names = attrNames document;
  plain = builtins.filter (name: !isSection name) names;
  sections = builtins.filter isSection names;
in
body (builtins.listToAttrs (map (name: { inherit name; value = document.${name}; }) plain))
+ builtins.concatStringsSep "" (map (section document) sections)
