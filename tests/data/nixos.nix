# As much of nixpkgs' module system as examples/server/module.nix needs: fills in defaults, checks types, and refuses
# options that aren't declared. Gives the configuration that the module defines, and what it asserts.
{ module, settings }:
let
  type = name: check: { inherit name check; fill = path: value: value; };
  list = builtins.isList;
  lib = rec {
    types = {
      str = type "str" builtins.isString;
      bool = type "bool" builtins.isBool;
      package = type "package" (value: builtins.isAttrs value && value ? outPath);
      ints.unsigned = type "unsigned" (value: builtins.isInt value && value >= 0);
      enum = values: type "enum" (value: builtins.elem value values);
      listOf = of: type "listOf" (value: list value && builtins.all of.check value);
      nullOr = of: of // {
        name = "nullOr";
        check = value: value == null || of.check value;
        fill = path: value: if value == null then null else of.fill path value;
      };
      submodule = module: type "submodule" builtins.isAttrs // { fill = path: fill path module.options; };
    };
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = what: mkOption { type = types.bool; default = false; description = "Whether to enable ${what}."; };
    mkIf = condition: content: if condition then content else { };
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: value: if condition then value else { };
    getExe' = package: name: "${package.outPath}/bin/${name}";
    escapeShellArgs = arguments: builtins.concatStringsSep " " (map escapeShellArg arguments);
    escapeShellArg = argument:
      if builtins.match "[[:alnum:],._+:@%/-]+" argument != null then argument
      else "'${builtins.replaceStrings [ "'" ] [ "'\\''" ] argument}'";
  };
  fill = path: options: given:
    let
      unknown = builtins.filter (name: !(options ? ${name})) (builtins.attrNames given);
      one = name: option:
        let
          here = "${path}.${name}";
          value = given.${name} or option.default or (throw "${here} is not set");
          good = option.type.check value || throw "${here} is not of the type ${option.type.name}";
        in
        assert option ? description || throw "${here} has no description";
        if good then option.type.fill here value else null;
    in
    if unknown != [ ] then throw "${path} has no option ${builtins.head unknown}" else builtins.mapAttrs one options;
  applied = import module { inherit lib; pkgs = { }; config.services.nixcache = filled; };
  filled = fill "services.nixcache" applied.options.services.nixcache settings;
  failed = builtins.filter (assertion: !assertion.assertion) (applied.config.assertions or [ ]);
in
{
  configuration = builtins.removeAttrs applied.config [ "assertions" ];
  refused = map (assertion: assertion.message) failed;
}
