defmodule DemoNif do
  @moduledoc "Functions that are written in Rust."
  @on_load :load

  @doc false
  def load do
    :erlang.load_nif(Application.app_dir(:demo_nif, "priv/native/demo_nif"), 0)
  end

  @doc "The sum of two numbers."
  def add(_left, _right), do: :erlang.nif_error(:nif_not_loaded)
end
