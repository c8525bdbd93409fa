package envelope.spark;

import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.apache.hadoop.conf.Configuration;
import org.apache.parquet.crypto.KeyAccessDeniedException;
import org.apache.parquet.crypto.ParquetCryptoRuntimeException;
import org.apache.parquet.crypto.keytools.KmsClient;

/**
 * Wraps and unwraps Parquet's keys with master keys in Azure Key Vault (docs/spark.md).
 *
 * <p>A master key's name in a file is an alias. Where its key is, the configuration alone says:
 * {@code envelope.keys.ALIAS = https://VAULT/keys/NAME}. The KMS instance URL and id that stand in
 * files are ignored: whoever writes to the store would otherwise choose the host that gets our token.
 *
 * <p>A wrapped key is the text {@code ALGORITHM.VERSION.BASE64URL}. The version is that of the master
 * key, without which a wrap would mean "the newest" and be lost with the next rotation.
 */
public final class KeyVaultKmsClient implements KmsClient {
  /** Followed by an alias, the URL of its key. */
  public static final String KEYS = "envelope.keys.";
  /** Followed by an alias, the algorithm that its key is used with; RSA-OAEP-256 where it is absent. */
  public static final String ALGORITHM = "envelope.algorithm.";

  private static final String RSA = "RSA-OAEP-256";
  private static final Pattern ALGORITHMS = Pattern.compile("RSA-OAEP-256|A256KW");
  private static final Pattern ALIAS = Pattern.compile("[A-Za-z0-9._-]{1,128}");
  private static final Pattern WRAPPED =
      Pattern.compile("([A-Z0-9-]{1,32})\\.([0-9a-f]{32})\\.([A-Za-z0-9_-]{1,1024})");

  private Configuration configuration;
  private KeyVault vaults;

  /** Called by parquet-java. Of these arguments, only the configuration and the token are used. */
  @Override
  public void initialize(
      Configuration configuration, String kmsInstanceId, String kmsInstanceUrl, String accessToken) {
    this.configuration = configuration;
    boolean given = accessToken != null && !accessToken.isEmpty()
        && !KEY_ACCESS_TOKEN_DEFAULT.equals(accessToken);
    this.vaults = new KeyVault(given ? cloud -> accessToken : new Tokens(configuration));
  }

  @Override
  public String wrapKey(byte[] key, String alias) {
    KeyUrl url = keyOf(alias);
    String algorithm = algorithmOf(alias);
    KeyVault.Answer answer = vaults.call(url, "wrapkey", algorithm, key);
    return String.join(".", algorithm, answer.version(), base64url(answer.value()));
  }

  @Override
  public byte[] unwrapKey(String wrapped, String alias) {
    KeyUrl url = keyOf(alias);
    Matcher parts = WRAPPED.matcher(wrapped);
    if (!parts.matches()) {
      throw new ParquetCryptoRuntimeException(
          "The key under " + alias + " was wrapped by another program than a client of Key Vault");
    }
    // A file that chose the algorithm could make the vault answer questions about its key.
    if (!parts.group(1).equals(algorithmOf(alias))) {
      throw new KeyAccessDeniedException(
          "The file says " + parts.group(1) + ", and " + alias + " is used with " + algorithmOf(alias));
    }
    return vaults.call(url.at(parts.group(2)), "unwrapkey", parts.group(1),
        Base64.getUrlDecoder().decode(parts.group(3))).value();
  }

  private KeyUrl keyOf(String alias) {
    if (!ALIAS.matcher(alias).matches()) {
      throw new KeyAccessDeniedException("A master key's name is not an alias");
    }
    String url = configuration.getTrimmed(KEYS + alias);
    if (url == null) {
      throw new KeyAccessDeniedException(
          "The file's key " + alias + " is not configured: set " + KEYS + alias + " to the key's URL");
    }
    return KeyUrl.parse(url, configuration);
  }

  private String algorithmOf(String alias) {
    String algorithm = configuration.getTrimmed(ALGORITHM + alias, RSA);
    if (!ALGORITHMS.matcher(algorithm).matches()) {
      throw new ParquetCryptoRuntimeException(ALGORITHM + alias + " is RSA-OAEP-256 or A256KW");
    }
    return algorithm;
  }

  static String base64url(byte[] value) {
    return Base64.getUrlEncoder().withoutPadding().encodeToString(value);
  }
}
