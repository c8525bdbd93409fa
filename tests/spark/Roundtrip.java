import envelope.spark.KeyVaultKmsClient;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.Base64;
import org.apache.hadoop.conf.Configuration;

/**
 * Drives the client line by line, as parquet-java calls it: {@code set NAME VALUE}, {@code start TOKEN},
 * {@code wrap ALIAS BASE64}, {@code unwrap ALIAS TEXT}. It answers with a line each.
 */
public final class Roundtrip {
  public static void main(String[] arguments) throws Exception {
    Configuration configuration = new Configuration(false);
    KeyVaultKmsClient client = new KeyVaultKmsClient();
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] parts = line.split(" ", 3);
      try {
        switch (parts[0]) {
          case "set" -> {
            configuration.set(parts[1], parts[2]);
            System.out.println("ok");
          }
          case "start" -> {
            client = new KeyVaultKmsClient();
            client.initialize(configuration, "id", "https://evil.example", parts[1]);
            System.out.println("ok");
          }
          case "wrap" -> System.out.println(
              client.wrapKey(Base64.getDecoder().decode(parts[2]), parts[1]));
          case "unwrap" -> System.out.println(
              Base64.getEncoder().encodeToString(client.unwrapKey(parts[2], parts[1])));
          default -> throw new IllegalArgumentException(line);
        }
      } catch (RuntimeException error) {
        System.out.println("! " + error.getClass().getSimpleName() + " " + error.getMessage());
      }
    }
  }
}
