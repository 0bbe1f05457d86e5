defmodule CargoNixcache.MixProject do
  use Mix.Project

  def project do
    [
      app: :cargo_nixcache,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [],
      description: "Fetches NIFs that were built once, by nixcache.lock: verified, and without Rust"
    ]
  end

  # The compiler runs while nothing is started, so it loads what it needs itself.
  def application, do: [extra_applications: [:crypto, :inets, :public_key, :ssl]]
end
