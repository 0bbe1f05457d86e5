defmodule CargoNixcache.Settings do
  @moduledoc false
  # Where the server is, and what proves who we are: variables first, then the application's configuration.

  alias CargoNixcache.{Error, Http}

  def url!(given \\ nil) do
    case given || variable("NIXCACHE_NIF_URL") || Application.get_env(:cargo_nixcache, :url) do
      url when is_binary(url) ->
        check!(url)

      nil ->
        raise Error,
              "no address of NIFs is known: set NIXCACHE_NIF_URL, or `config :cargo_nixcache, url: …`, " <>
                "such as https://cache.example.org/nif/main"
    end
  end

  @doc "The token for this address. It is not sent where everybody on the way can read it."
  def token!(url) do
    token = variable("NIXCACHE_NIF_TOKEN") || from_file!()

    if token && not private?(url) do
      raise Error,
            "the token for #{Http.shown(url)} would be sent as plain text: use https://, or allow it with " <>
              "NIXCACHE_NIF_ALLOW_HTTP=1 or `config :cargo_nixcache, allow_http: true`"
    end

    token
  end

  # Whether nobody on the way reads what is sent, or that is wanted.
  defp private?(url) do
    uri = URI.parse(url)

    uri.scheme == "https" or loopback?(uri.host) or variable("NIXCACHE_NIF_ALLOW_HTTP") in ["1", "true"] or
      Application.get_env(:cargo_nixcache, :allow_http, false)
  end

  defp loopback?("localhost"), do: true

  defp loopback?(host) do
    case :inet.parse_strict_address(String.to_charlist(host)) do
      {:ok, {127, _, _, _}} -> true
      {:ok, {0, 0, 0, 0, 0, 0, 0, 1}} -> true
      _ -> false
    end
  end

  defp from_file! do
    case variable("NIXCACHE_NIF_TOKEN_FILE") || Application.get_env(:cargo_nixcache, :token_file) do
      nil ->
        nil

      path ->
        case File.read(path) do
          {:ok, text} -> String.trim(text)
          {:error, reason} -> raise Error, "can't read the token in #{path}: #{:file.format_error(reason)}"
        end
    end
  end

  defp check!(url) do
    case URI.parse(url) do
      %URI{scheme: scheme, host: host} = uri when scheme in ["http", "https"] and is_binary(host) and host != "" ->
        if uri.userinfo && not private?(url),
          do: raise(Error, "the password for #{Http.shown(url)} would be sent as plain text: use https://"),
          else: url

      _ ->
        raise Error, "the address of NIFs must begin with https:// or http://"
    end
  end

  defp variable(name) do
    case System.get_env(name) do
      empty when empty in [nil, ""] -> nil
      value -> value
    end
  end
end
