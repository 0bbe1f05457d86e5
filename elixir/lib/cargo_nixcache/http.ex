defmodule CargoNixcache.Http do
  @moduledoc false
  # One file over HTTP, for machines without the command line program. Redirects are not followed, so a credential
  # goes where it was meant for and nowhere else; and no error shows more of an address than its place.

  alias CargoNixcache.Error

  @connect_timeout 5_000
  @timeout 120_000

  @doc "The bytes of the file at `url`, of which there must be `size`."
  def get!(url, token, size) do
    ensure!([:crypto, :public_key, :ssl, :inets])
    headers = if token, do: [{~c"authorization", String.to_charlist("Bearer " <> token)}], else: []
    http = [timeout: @timeout, connect_timeout: @connect_timeout, autoredirect: false] ++ ssl(url)
    answer = :httpc.request(:get, {String.to_charlist(url), headers}, http, body_format: :binary)

    case answer do
      {:ok, {{_, 200, _}, _, body}} when byte_size(body) == size ->
        body

      {:ok, {{_, 200, _}, _, body}} ->
        raise Error,
              "#{shown(url)} has #{byte_size(body)} bytes, and #{size} are locked: it was cut off or is another file"

      {:ok, {{_, status, _}, _, _}} ->
        raise Error, "#{shown(url)} answers with #{status}#{meaning(status)}"

      {:error, reason} ->
        raise Error, "can't reach #{shown(url)}: #{reason(reason)}"
    end
  end

  defp meaning(401), do: ": it asks for a token (NIXCACHE_NIF_TOKEN)"
  defp meaning(403), do: ": the token does not allow it"
  defp meaning(404), do: ": it isn't published there"
  defp meaning(status) when status in 300..399, do: ": redirects are not followed"
  defp meaning(_), do: ""

  # As people know them. What else is in a reason can hold what was sent.
  defp reason({:failed_connect, parts}) do
    case Enum.find_value(parts, fn part -> is_tuple(part) and tuple_size(part) == 3 and elem(part, 2) end) do
      reason when is_atom(reason) and reason not in [nil, false] -> to_string(:inet.format_error(reason))
      {:tls_alert, {alert, _}} -> "TLS: #{alert}"
      _ -> "no connection"
    end
  end

  defp reason(:timeout), do: "it takes too long"
  defp reason(reason) when is_atom(reason), do: Atom.to_string(reason)
  defp reason(_), do: "the connection broke"

  @doc false
  def shown(url) do
    uri = URI.parse(url)
    URI.to_string(%URI{uri | userinfo: nil, query: nil, fragment: nil})
  end

  defp ssl("https" <> _) do
    hostname = [match_fun: :public_key.pkix_verify_hostname_match_fun(:https)]
    [ssl: [verify: :verify_peer, depth: 3, customize_hostname_check: hostname] ++ certificates()]
  end

  defp ssl(_), do: []

  defp certificates do
    case Enum.find(["NIX_SSL_CERT_FILE", "SSL_CERT_FILE", "HEX_CACERTS_PATH"], &(System.get_env(&1) not in [nil, ""])) do
      nil ->
        # From OTP 25 on.
        if function_exported?(:public_key, :cacerts_get, 0),
          do: [cacerts: apply(:public_key, :cacerts_get, [])],
          else: [cacertfile: ~c"/etc/ssl/certs/ca-certificates.crt"]

      name ->
        [cacertfile: String.to_charlist(System.get_env(name))]
    end
  end

  defp ensure!(applications) do
    # From Elixir 1.15 on, Mix hides applications that nobody depends upon.
    if function_exported?(Mix, :ensure_application!, 1) do
      Enum.each(applications, &apply(Mix, :ensure_application!, [&1]))
    end

    Enum.each(applications, fn application ->
      case Application.ensure_all_started(application) do
        {:ok, _} -> :ok
        {:error, _} -> raise Error, "Erlang's application #{application} is missing: it is needed to fetch over HTTP"
      end
    end)
  end
end
