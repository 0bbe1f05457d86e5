defmodule Demo.MixProject do
  use Mix.Project

  def project do
    [
      app: :demo,
      version: "0.1.0",
      elixir: "~> 1.14",
      # Before the others: modules that load the NIF may be loaded while the rest is compiled.
      compilers: [:cargo_nixcache] ++ Mix.compilers(),
      cargo_nixcache: [layout: :rustler],
      deps: [{:cargo_nixcache, path: "../../elixir", runtime: false}]
    ]
  end

  def application, do: []
end
