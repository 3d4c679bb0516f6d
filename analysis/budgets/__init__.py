"""What an error takes before a study is run: networks, draws, test points and hours (`make design`)."""
