package envelope.spark;

import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpRequest;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.stream.Collectors;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;
import shaded.parquet.com.fasterxml.jackson.databind.JsonNode;

/**
 * Tokens of Entra ID: of an application with a secret, of a workload identity, or of the machine's
 * managed identity, whichever of them the configuration and the environment name first.
 */
final class Tokens implements KeyVault.TokenSource {
  static final String TENANT = "envelope.tenant.id";
  static final String CLIENT = "envelope.client.id";
  static final String SECRET = "envelope.client.secret";

  private static final String MACHINE =
      "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=";
  private static final Duration EARLY = Duration.ofMinutes(5);
  private static final Map<String, String> AUTHORITIES = Map.of(
      "azure.net", "login.microsoftonline.com",
      "azure.cn", "login.chinacloudapi.cn",
      "usgovcloudapi.net", "login.microsoftonline.us");

  private record Token(String text, Instant until) {}

  private final Configuration configuration;
  private final Map<String, Token> known = new LinkedHashMap<>();

  Tokens(Configuration configuration) {
    this.configuration = configuration;
  }

  @Override
  public synchronized String token(String cloud) {
    Token token = known.get(cloud);
    if (token == null || Instant.now().isAfter(token.until())) {
      token = ask(cloud);
      known.put(cloud, token);
    }
    return token.text();
  }

  @Override
  public synchronized void refused(String cloud) {
    known.remove(cloud);
  }

  private Token ask(String cloud) {
    Instant now = Instant.now();
    Http.Answer answer = Http.send(request(cloud), "a token for " + cloud);
    JsonNode json = answer.json();
    String text = json.path("access_token").asText("");
    if (answer.status() != 200 || text.isEmpty()) {
      throw new KeyAccessDeniedException(
          "a token for " + cloud + ": " + answer.status() + " " + answer.codes());
    }
    Duration life = Duration.ofSeconds(json.path("expires_in").asLong(0)); // some send it as text
    return new Token(text, now.plus(life.compareTo(EARLY.multipliedBy(2)) > 0
        ? life.minus(EARLY) : life.dividedBy(2)));
  }

  private HttpRequest.Builder request(String cloud) {
    String resource = "https://" + cloud;
    String client = setting(CLIENT, "AZURE_CLIENT_ID");
    String secret = secret();
    if (secret != null) {
      return application(cloud, client, Map.of("client_secret", secret));
    }
    String file = System.getenv("AZURE_FEDERATED_TOKEN_FILE");
    if (file != null) {
      return application(cloud, client, Map.of(
          "client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
          "client_assertion", read(Path.of(file))));
    }
    String identity = client == null ? "" : "&client_id=" + encoded(client);
    String endpoint = System.getenv("IDENTITY_ENDPOINT");
    if (endpoint != null) {
      return HttpRequest.newBuilder(URI.create(endpoint + "?api-version=2019-08-01&resource="
          + encoded(resource) + identity))
          .header("X-IDENTITY-HEADER", String.valueOf(System.getenv("IDENTITY_HEADER")));
    }
    return HttpRequest.newBuilder(URI.create(MACHINE + encoded(resource) + identity))
        .header("Metadata", "true");
  }

  /** The client credentials flow of OAuth 2.0. */
  private HttpRequest.Builder application(String cloud, String client, Map<String, String> proof) {
    String tenant = setting(TENANT, "AZURE_TENANT_ID");
    if (tenant == null || client == null || !tenant.matches("[A-Za-z0-9.-]+")) {
      throw new ParquetCryptoRuntimeException("an application's token needs " + TENANT + " and " + CLIENT);
    }
    Map<String, String> form = new LinkedHashMap<>(proof);
    form.put("grant_type", "client_credentials");
    form.put("client_id", client);
    form.put("scope", "https://" + cloud + "/.default");
    String authority = AUTHORITIES.get(cloud.substring(cloud.indexOf('.') + 1));
    String body = form.entrySet().stream()
        .map(each -> each.getKey() + "=" + encoded(each.getValue())).collect(Collectors.joining("&"));
    return HttpRequest.newBuilder(URI.create("https://" + authority + "/" + tenant + "/oauth2/v2.0/token"))
        .header("Content-Type", "application/x-www-form-urlencoded")
        .POST(HttpRequest.BodyPublishers.ofString(body));
  }

  private String setting(String property, String variable) {
    return configuration.getTrimmed(property, System.getenv(variable));
  }

  /** From a Hadoop credential provider where there is one, so that it need not stand in a property. */
  private String secret() {
    try {
      char[] found = configuration.getPassword(SECRET);
      return found != null ? new String(found) : System.getenv("AZURE_CLIENT_SECRET");
    } catch (IOException error) {
      throw new ParquetCryptoRuntimeException("the credential provider of " + SECRET, error);
    }
  }

  private static String read(Path file) {
    try {
      return Files.readString(file).strip();
    } catch (IOException error) {
      throw new ParquetCryptoRuntimeException("the workload identity's token cannot be read", error);
    }
  }

  private static String encoded(String text) {
    return URLEncoder.encode(text, StandardCharsets.UTF_8);
  }
}
